"""Chains over a 4-bit base in TRL's SFTTrainer, which casts what trains to bfloat16."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from transformers.trainer_utils import set_seed
from trl import SFTConfig, SFTTrainer

from rankwise.methods.adapters.bridge import adapted_layers
from rankwise.methods.chain.callback import ChainCallback
from tests.models.chain_trainers import StopAt
from tests.models.language import options, tokenizer
from tests.models.quantised import attach, logits

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def run(folder, *, side="left", resume=None, callbacks=(), **init):
    set_seed(3)
    model = attach("lora", "nf4", **init)
    callback = ChainCallback(model, every=2, side=side)
    tokens = torch.randint(3, 17, (24, 8), generator=torch.Generator().manual_seed(4)).tolist()
    arguments = options(folder, max_steps=6, gradient_checkpointing=False, save_steps=3)
    trainer = SFTTrainer(
        model,
        args=SFTConfig(**{**arguments, "save_strategy": "steps"}),
        train_dataset=Dataset.from_dict({"input_ids": tokens}),
        processing_class=tokenizer(),
        callbacks=[callback, *callbacks],
    )
    trainer.train(resume_from_checkpoint=resume)
    return model, callback


def factors(model):
    return [
        getattr(layer, part)["default"].weight
        for layer in adapted_layers(model).values()
        for part in ("lora_B", "lora_A")
    ]


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_it_trains_to_the_end(tmp_path, side):
    model, callback = run(tmp_path, side=side)
    assert callback.report.blocks == 3
    assert {each.dtype for each in factors(model)} == {torch.bfloat16}
    assert torch.isfinite(logits(model)).all()


@pytest.mark.parametrize("init", [{}, {"init_lora_weights": False}])
def test_a_run_that_was_stopped_and_resumed_ends_bit_for_bit_as_one_that_was_not(tmp_path, init):
    whole, _ = run(tmp_path / "whole", **init)
    run(tmp_path / "run", callbacks=[StopAt(3)], **init)
    resumed, _ = run(tmp_path / "run", resume=True, **init)
    assert all(map(torch.equal, factors(resumed), factors(whole)))


def test_a_model_computes_before_training_begins(tmp_path):
    model = attach("lora", "nf4")
    ChainCallback(model, every=2)
    before = logits(model)
    for parameter in model.parameters():
        if parameter.requires_grad:  # as TRL does
            parameter.data = parameter.data.to(torch.bfloat16)
    torch.testing.assert_close(logits(model), before)
