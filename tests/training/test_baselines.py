"""Baselines of the papers: PEFT's own adapters, LoRA+ and BitFit, from training to a test score."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.errors import ModelError
from rankwise.training.adapter import attach_adapter
from rankwise.training.finished import score_test
from rankwise.training.job import prepare_job
from rankwise.training.loops.optimization import build_optimizer
from rankwise.training.run import train_run

pytestmark = pytest.mark.runs

KINDS = {
    "rslora": ("LORA", {"use_rslora": True}),
    "dora": ("LORA", {"use_dora": True}),
    "pissa": ("LORA", {"init_lora_weights": "pissa", "lora_alpha": 2}),
    "adalora": ("ADALORA", {"total_step": 15, "init_r": 4, "target_r": 2, "tinit": 2, "tfinal": 3}),
    "vera": ("VERA", {}),
    "ia3": ("IA3", {"feedforward_modules": []}),
    "oft": ("OFT", {"oft_block_size": 4}),
    "oft with r 0": ("OFT", {"r": 0, "oft_block_size": 4}),
}


# PEFT says so of the masks that its AdaLoRA writes into its own config.
@pytest.mark.filterwarnings("ignore:The following rank_pattern keys:RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_peft_trains_and_is_scored(settings, output, kind):
    peft_type, options = KINDS[kind]
    adapter = {
        "peft_type": peft_type,
        "options": options,
        "target_modules": ["layers.0", "layers.2"],
    }
    run = settings("peft", method={"adapter": adapter}, learning_rate=1e-2)
    record = train_run(run, output)
    assert record.trainable_parameters > 0
    assert record.curve[-1].validation_loss < record.curve[0].validation_loss
    assert 0 <= score_test(run, output).score_test <= 1


@pytest.mark.parametrize("loop", ["lean", "trainer"])
def test_adalora_moves_its_rank(settings, output, loop):
    peft_type, options = KINDS["adalora"]
    adapter = {"peft_type": peft_type, "options": options, "target_modules": ["layers.0"]}
    run = settings("peft", method={"adapter": adapter}, loop=loop)
    job = prepare_job(run, output / "base")
    calls = []
    type(job.model.base_model).update_and_allocate, before = (
        lambda _, step: calls.append(step),
        type(job.model.base_model).update_and_allocate,
    )
    try:
        train_run(run, output)
    finally:
        type(job.model.base_model).update_and_allocate = before
    assert calls == list(range(1, 16))


def test_lora_plus_gives_B_its_own_rate(settings, output):
    run = settings("lora", method={"adapter": {"loraplus_lr_ratio": 16}}, learning_rate=1e-3)
    optimizer = build_optimizer(prepare_job(run, output / "base").model, run)
    assert sorted(group["lr"] for group in optimizer.param_groups) == [1e-3, 16e-3]


def test_bitfit_trains_biases_alone(settings, output):
    run = settings("full", method={"adapter": {"only_biases": True}}, learning_rate=1e-2)
    record = train_run(run, output)
    job = prepare_job(run, output / "base")
    trained = [name for name, p in job.model.named_parameters() if p.requires_grad]
    assert trained
    assert all(name.endswith("bias") for name in trained)
    assert record.trainable_parameters == sum(
        p.numel() for p in job.model.parameters() if p.requires_grad
    )
    assert record.curve[-1].validation_loss < record.curve[0].validation_loss
    assert 0 <= score_test(run, output).score_test <= 1


def test_a_model_without_biases_has_no_bitfit(settings, output):
    run = settings("full", method={"adapter": {"only_biases": True}})
    job = prepare_job(run, output / "base")
    with pytest.raises(ModelError, match=r"has no biases: leave .*only_biases out"):
        attach_adapter(
            torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False)),
            run.method,
            task=job.task,
            seed=0,
        )
