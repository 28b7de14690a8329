"""An unfinished chain leaves as the LoRA that it would be if it were finished now."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from rankwise.cli.main import main
from rankwise.core.errors import AdapterError, SettingsError
from rankwise.export.ledger import export_ledger
from rankwise.methods.adapters.bridge import delta
from tests.models.chains import NAMES, build, chained, layers

SETUPS = {
    "left": {"side": "left"},
    "right": {"side": "right", "sketch": "orthonormal"},
    "both": {"side": "both"},
    "selector": {"side": "left", "sketch": "selector"},
}


def changes(directory):
    tensors = load_file(directory / "adapter_model.safetensors")
    return {n: tensors[f"{n}.lora_B.weight"] @ tensors[f"{n}.lora_A.weight"] for n in NAMES}


@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS.keys())
def test_it_is_the_lora_of_the_finished_chain(setup, tmp_path):
    model = build()
    chain = chained(model, folds=2, **setup)
    chain.save(tmp_path / "ledger")
    model.save_pretrained(tmp_path / "ledger")
    done = export_ledger(tmp_path / "ledger", tmp_path / "lora")
    chain.finish()
    assert (done.rank, done.blocks) == (6, 3)
    assert set(done.errors.values()) == {0.0}
    for name, change in changes(tmp_path / "lora").items():
        torch.testing.assert_close(change, delta(layers(model)[name], "default"))
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 6, 6)


def test_many_blocks_leave_with_the_rank_of_the_smaller_side(tmp_path):
    model = build()
    chain = chained(model, folds=9)
    chain.save(tmp_path / "ledger")
    model.save_pretrained(tmp_path / "ledger")
    done = export_ledger(tmp_path / "ledger", tmp_path / "lora")
    sides = [min(layer.get_base_layer().weight.shape) for layer in layers(model).values()]
    chain.finish()
    assert done.rank == max(sides) < 20
    for name, change in changes(tmp_path / "lora").items():
        expected = delta(layers(model)[name], "default").detach()
        assert (change - expected).norm() <= 1e-6 * expected.norm()


@pytest.fixture
def saved(tmp_path):
    model = build()
    chain = chained(model, folds=2)
    model.save_pretrained(tmp_path / "ledger")
    return tmp_path / "ledger", chain, model


def test_a_smaller_rank_says_what_it_loses(saved, tmp_path):
    ledger, chain, model = saved
    done = export_ledger(ledger, tmp_path / "lora", rank=2)
    chain.finish()
    for name, change in changes(tmp_path / "lora").items():
        whole = delta(layers(model)[name], "default").detach()
        error = float((change - whole).norm() / whole.norm())
        assert error == pytest.approx(done.errors[name], rel=1e-4)
        assert error > 0


def test_the_command_prints_the_error(saved, tmp_path, capsys):
    words = ["export", str(saved[0]), "--output", str(tmp_path / "lora")]
    assert main([*words, "--target", "merged"]) == 2
    assert "no model to merge into" in capsys.readouterr().err
    assert main([*words, "--rank", "2", "--target", "gguf-ready"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "rank 2 from 3 blocks of the unfinished chain" in printed
    assert "relative error of the compressed change up to" in printed


def test_the_newest_checkpoint_of_a_run_is_found(saved, tmp_path, capsys):
    checkpoints = tmp_path / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    saved[0].rename(checkpoints / "checkpoint-10")
    assert main(["export", str(tmp_path / "run"), "--output", str(tmp_path / "lora")]) == 0
    assert "checkpoint-10" in "".join(capsys.readouterr().out.split())


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(saved, tmp_path):
    ledger = saved[0]
    with pytest.raises(SettingsError, match="at least 1, got 0"):
        export_ledger(ledger, tmp_path / "lora", rank=0)
    weights = ledger / "adapter_model.safetensors"
    save_file({**load_file(weights), "base_model.model.head.weight": torch.ones(2)}, weights)
    with pytest.raises(AdapterError, match=r"head\.weight beside the chain"):
        export_ledger(ledger, tmp_path / "lora")
    assert not (tmp_path / "lora").exists()
