"""``rankwise doctor``: a table and its warnings, or JSON; one method does not take others down."""

from __future__ import annotations

import json

import pytest

from rankwise.cli.main import main
from rankwise.core.errors import SettingsError

WORDS = ["doctor", "digits", "--task.pretrain_epochs", "1"]
METHODS = "[{name: lora, r: 2}, {name: lora-xs, r: 6}, {name: peft, adapter: {peft_type: DELORA}}]"


def test_the_table_has_a_line_a_method_and_the_warnings(capsys):
    assert main([*WORDS, "--compare.methods", METHODS, "--layers"]) == 0
    printed = capsys.readouterr().out
    assert "layers.4" in printed
    assert "lora-xs (r=6) cannot begin: method: r must be between 1 and 5" in printed
    assert "peft (r=8): one step moves the weights by" in printed


def test_json_holds_the_same(capsys):
    assert main([*WORDS, "--compare.methods", METHODS, "--json"]) == 0
    lora, lora_xs, delora = json.loads(capsys.readouterr().out)
    assert (lora["name"], lora["error"], lora["warnings"]) == ("lora", None, [])
    assert 0 < lora["layers"][0]["captured_share"] < 1
    assert "between 1 and 5" in lora_xs["error"]
    assert "at any learning rate" in delora["warnings"][0]


def test_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*WORDS, "--compare.methods", "[{name: lora, r: 2}]"]) == 0
    assert "nothing to warn of" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_method_that_is_named_is_looked_at_alone(capsys):
    assert main([*WORDS, "--method.name", "lora-sb", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["r"], found["error"]) == ("lora-sb", 11, None)


def test_a_compared_method_is_examined_as_it_would_be_compared(capsys, monkeypatch):
    seen = []

    def refused(run, _):
        seen.append(run)
        raise SettingsError("seen")

    monkeypatch.setattr("rankwise.training.probes.doctor.examine", refused)
    method = "{name: lora, r: 2, training: {batch_size: 64}, task: {pretrain_epochs: 3}}"
    assert main([*WORDS, "--compare.methods", method, "--lr", "0.5"]) == 0
    (run,) = seen
    assert (run.training.batch_size, run.task.pretrain_epochs) == (64, 3)
    printed = capsys.readouterr().out
    assert "one batch, one step at 0.5" in printed
    assert "lora (r=2) cannot begin: seen" in printed


@pytest.mark.parametrize(("kind", "is_told"), [("peft", True), ("lora", False)])
def test_only_a_config_of_peft_may_break_down_without_being_our_fault(
    capsys, monkeypatch, kind, is_told
):
    def broken(*_):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr("rankwise.training.probes.doctor.examine", broken)
    words = [*WORDS, "--method.name", kind]
    if is_told:
        assert main(words) == 0
        assert "peft (r=4) cannot begin: RuntimeError: no such kernel" in capsys.readouterr().out
    else:
        with pytest.raises(RuntimeError, match="no such kernel"):
            main(words)
