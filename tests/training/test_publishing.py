"""What leaves as a plain LoRA computes what the run computed, or does not leave."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file

from rankwise.core.errors import AdapterError, ModelError
from rankwise.tasks.digits import DigitsTask
from rankwise.training import publishing
from rankwise.training.publishing import publish_lora, publish_merged
from rankwise.training.run import train_run


@pytest.mark.parametrize(
    ("name", "rank"), [("lora", 2), ("cola", 6), ("rac-lora", 6), ("lora-sb", 2), ("delora", 4)]
)
def test_each_method_leaves_as_one_lora_of_the_rank_of_its_formula(
    settings, output, tmp_path, name, rank
):
    chain = {"schedule": {"every_epochs": 1}} if name in ("cola", "rac-lora") else None
    run = settings(name, method=chain)
    train_run(run, output)
    published = publish_lora(output / "runs" / run.name, tmp_path / "lora")
    assert published.lora.rank == rank
    assert published.largest_difference < 1e-5
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", rank, rank)


def test_full_fine_tuning_has_no_adapter_to_publish(settings, output, tmp_path):
    run = settings("full")
    train_run(run, output)
    with pytest.raises(ModelError):
        publish_lora(output / "runs" / run.name, tmp_path / "lora")
    assert not (tmp_path / "lora").exists()


def test_outputs_that_differ_leave_nothing_behind(settings, output, tmp_path, monkeypatch):
    run = settings("lora")
    train_run(run, output)
    monkeypatch.setattr(publishing, "_largest_difference", lambda *_: 0.01)
    with pytest.raises(AdapterError, match=r"differ from .* by 1.0e-02 .*nothing was exported"):
        publish_lora(output / "runs" / run.name, tmp_path / "lora")
    assert not (tmp_path / "lora").exists()


def test_merged_weights_compute_what_the_run_computed(settings, output, tmp_path):
    run = settings("delora")
    train_run(run, output)
    rows, difference = publish_merged(output / "runs" / run.name, tmp_path / "merged")
    assert rows > 0
    assert difference < 1e-5
    tensors = load_file(tmp_path / "merged" / "model.safetensors")
    base = DigitsTask(pretrain_epochs=2).base_model(output / "base")
    assert tensors.keys() == base.state_dict().keys()
    assert "merged into the weights" in (tmp_path / "merged" / "README.md").read_text()


def test_a_smaller_rank_shows_what_it_loses(settings, output, tmp_path):
    run = settings("cola", method={"schedule": {"every_epochs": 1}})
    train_run(run, output)
    published = publish_lora(output / "runs" / run.name, tmp_path / "lora", rank=2)
    assert published.lora.rank == 2
    assert len(published.errors) == 3
    assert 0 < max(published.errors.values()) < 1
    assert published.largest_difference > 1e-4
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 2


def test_a_failure_after_writing_leaves_nothing_behind(settings, output, tmp_path, monkeypatch):
    run = settings("lora")
    train_run(run, output)
    monkeypatch.setattr(publishing, "_largest_difference", lambda *_: 0.01)
    with pytest.raises(AdapterError, match="nothing was exported"):
        publish_merged(output / "runs" / run.name, tmp_path / "merged")
    assert {file.name for file in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize("publish", [publish_lora, publish_merged])
def test_a_damaged_adapter_is_refused_by_name(settings, output, tmp_path, publish):
    run = settings("lora")
    train_run(run, output)
    weights = output / "runs" / run.name / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(AdapterError, match=r"(cannot be read|is damaged)"):
        publish(output / "runs" / run.name, tmp_path / "lora")
    assert not (tmp_path / "lora").exists()
