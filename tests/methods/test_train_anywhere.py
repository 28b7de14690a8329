"""One start on disk, and Transformers' Trainer, TRL's SFTTrainer and a plain loop go on from it."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from rankwise.export.lora import export_lora
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.chain.callback import ChainCallback
from rankwise.methods.chain.fold_steps import FoldBelow
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.language import (
    STEPS,
    batches,
    language_model,
    losses_of,
    mean_loss,
    plain_losses,
    sft_trainer_of,
    trainer_of,
)

pytestmark = pytest.mark.runs

TARGETS = ["q_proj", "v_proj", "down_proj"]
STARTS = {
    "lora": (LoraConfig, None),
    "lora-xs": (LoraXSConfig, None),
    "delora": (DeloraConfig, None),
    "lora-sb": (LoraXSConfig, UpdateApproximation(lr=1e-3)),
    "lora from the update": (LoraConfig, UpdateApproximation(lr=1e-3)),
    "abm-lora": (LoraConfig, BoundaryMatching(steps=3)),
}


def adapted(config, init=None) -> PeftModel:
    torch.manual_seed(1)
    model = get_peft_model(language_model(), config(r=4, target_modules=TARGETS))
    if init is not None:
        initialize(model, init, batches()[:2])
    return model


@pytest.fixture(params=STARTS)
def start(request, tmp_path):
    """A directory as ``rankwise init`` writes one."""
    adapted(*STARTS[request.param]).save_pretrained(tmp_path / "start")
    return tmp_path / "start"


def test_three_ways_to_train_have_the_same_losses(start, tmp_path):
    def model() -> PeftModel:
        return PeftModel.from_pretrained(language_model(), start, is_trainable=True)

    trained = model()
    plain = plain_losses(trained)
    hugging = losses_of(trainer_of(model(), tmp_path / "trainer"))
    sft = losses_of(sft_trainer_of(model(), tmp_path / "sft"))
    assert len(plain) == len(hugging) == len(sft) == STEPS
    assert mean_loss(trained) < mean_loss(model())
    torch.testing.assert_close(hugging, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sft, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "when",
    [
        {"every": 5, "side": "left"},
        {"every": 5, "side": "right"},
        {"every": 5, "side": "both"},
        {"below": FoldBelow(0.9999, look_every=5), "batches": batches()[:1]},
    ],
)
def test_a_chain_under_trl_is_the_chain_under_transformers(tmp_path, when):
    ends = []
    for make in (trainer_of, sft_trainer_of):
        model = adapted(LoraConfig)
        weight = model.base_model.model.model.layers[0].mlp.down_proj.base_layer.weight
        before = weight.clone()
        chain = ChainCallback(model, **when)
        losses = losses_of(make(model, tmp_path / make.__name__, callbacks=[chain]))
        assert torch.equal(weight, before)
        assert chain.report.blocks == 4
        assert mean_loss(model) < mean_loss(language_model())
        export_lora(model, tmp_path / f"{make.__name__}-lora")
        ends.append((losses, {n: p for n, p in model.named_parameters() if "lora" in n}))
    (losses, factors), (others, other_factors) = ends
    torch.testing.assert_close(losses, others, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(factors, other_factors, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("config", [LoraXSConfig, DeloraConfig])
def test_trl_attaches_our_adapters_itself(tmp_path, config):
    trainer = sft_trainer_of(
        language_model(), tmp_path, peft_config=config(r=4, target_modules=TARGETS)
    )
    trainer.train()
    assert mean_loss(trainer.model) < mean_loss(language_model())
    trainer.save_model(str(tmp_path / "out"))
    loaded = PeftModel.from_pretrained(language_model(), tmp_path / "out").eval()
    batch = batches()[0]
    with torch.no_grad():
        expected = trainer.model.eval()(**batch)["logits"]
        assert torch.equal(loaded(**batch)["logits"], expected)
