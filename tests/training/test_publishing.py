"""What leaves as a plain LoRA computes what the run computed, or does not leave."""

from __future__ import annotations

import json

import pytest

from rankwise.core.errors import AdapterError, ModelError
from rankwise.training import publishing
from rankwise.training.publishing import publish_lora
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
