"""``rankwise doctor``: a table and its warnings, or JSON; one method does not take others down."""

from __future__ import annotations

import json

from rankwise.cli.main import main

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
    assert 0 < lora["layers"][0]["followed"] < 1
    assert "between 1 and 5" in lora_xs["error"]
    assert "at any learning rate" in delora["warnings"][0]


def test_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*WORDS, "--compare.methods", "[{name: lora, r: 2}]"]) == 0
    assert "nothing to warn of" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
