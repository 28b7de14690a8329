"""Chains under TRL's trainers with a reference: the model as it is without the adapter."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from rankwise.core.errors import ChainError
from rankwise.methods.adapters.bridge import adapted_layers, base_weight
from rankwise.methods.chain.callback import ChainCallback
from rankwise.methods.chain.chain import Chain
from tests.models.language import batches, language_model
from tests.models.trl_trainers import dpo, grpo

TARGETS = ["q_proj", "down_proj"]
STEPS = 5


def adapted(**config) -> PeftModel:
    torch.manual_seed(1)
    return get_peft_model(language_model(), LoraConfig(r=2, target_modules=TARGETS, **config))


@torch.no_grad()
def logits(model):
    return model.eval()(**batches()[0])["logits"]


trainers = pytest.mark.parametrize("make", [dpo, grpo])
# What TRL and Transformers warn of, whatever the model.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@trainers
@pytest.mark.parametrize("side", ["left", "both"])
def test_a_chain_trains_against_the_pretrained_model(make, side, tmp_path):
    base = logits(language_model())
    model = adapted()
    weights = [base_weight(layer).clone() for layer in adapted_layers(model).values()]
    callback = ChainCallback(model, every=2, side=side)
    references = []
    trainer = make(model, tmp_path, [callback], steps=STEPS)
    step = trainer.training_step

    def watched_step(*args, **kwargs):
        model.set_adapter("ref")
        references.append(logits(model))
        model.set_adapter("default")
        model.train()
        return step(*args, **kwargs)

    trainer.training_step = watched_step
    trainer.train()
    assert callback.report.blocks == 3
    assert len(references) == STEPS
    for reference in references:
        torch.testing.assert_close(reference, base, rtol=0, atol=0)
    assert not torch.equal(logits(model), base)
    now = [base_weight(layer) for layer in adapted_layers(model).values()]
    assert all(map(torch.equal, now, weights))


@trainers
def test_the_reference_beside_the_chain_saves_as_the_lora_it_is(make, tmp_path):
    model = adapted()
    callback = ChainCallback(model, every=2)
    make(model, tmp_path, [callback], steps=STEPS)
    assert type(model.peft_config["ref"]) is LoraConfig
    assert model.peft_config["default"].chain is callback.chain
    model.save_pretrained(tmp_path / "saved")
    files = {file.name for file in (tmp_path / "saved" / "ref").iterdir()}
    assert "rankwise_chain.safetensors" not in files
    assert "rankwise_chain.safetensors" in {file.name for file in (tmp_path / "saved").iterdir()}
    callback.finish()
    assert model.peft_config["ref"].r == 2


@trainers
def test_a_chain_that_began_with_what_its_adapter_had_learned_is_refused(make, tmp_path):
    model = adapted(init_lora_weights=False)
    callback = ChainCallback(model, every=2)
    with pytest.raises(ChainError, match=r"cannot copy adapter 'default' as 'ref': 1 blocks .*ref"):
        make(model, tmp_path, [callback], steps=STEPS)
    assert list(model.peft_config) == ["default"]
    callback.finish()


def test_another_adapter_is_still_refused_amid_a_chain():
    model = adapted()
    Chain(model)
    with pytest.raises(ChainError, match="cannot add adapter 'other'"):
        model.add_adapter("other", LoraConfig(r=2, target_modules=TARGETS))
