"""The guide on diffusion models, as it stands: all methods train a UNet that diffusers loads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

import rankwise
from tests.docs.pages import DOCS, blocks
from tests.models.diffusion import WIDTH, image_batches, pipeline

ADAPTER, LOSS, LOOP, EXPORT, LOAD = blocks(DOCS / "guides" / "diffusion.md", "python")
ATTENTION = {"r": 4, "target_modules": ["to_q", "to_k", "to_v", "to_out.0"]}
Attach = Callable[[nn.Module, Callable[..., torch.Tensor]], nn.Module]


def lora_sb(unet: nn.Module, loss_of: Callable[..., torch.Tensor]) -> nn.Module:
    model = get_peft_model(unet, rankwise.LoraXSConfig(**ATTENTION))
    rankwise.initialize(model, rankwise.UpdateApproximation(lr=1e-2), image_batches(), loss=loss_of)
    return model


def abm_lora(unet: nn.Module, loss_of: Callable[..., torch.Tensor]) -> nn.Module:
    model = get_peft_model(unet, LoraConfig(**ATTENTION))
    init = rankwise.BoundaryMatching(
        steps=2, layers=["mid_block.attentions.0.transformer_blocks.0.ff.net.0"]
    )
    rankwise.initialize(model, init, image_batches(), loss=loss_of)
    return model


@pytest.fixture
def names(tmp_path, monkeypatch) -> dict[str, Any]:
    """What the blocks take for granted, and then have made."""
    monkeypatch.chdir(tmp_path)
    loading = "diffusers.StableDiffusionPipeline.from_pretrained"
    monkeypatch.setattr(loading, lambda _: pipeline())
    torch.manual_seed(0)
    names = {"batches": image_batches()}
    exec(ADAPTER, names)
    return names


def run(names: dict[str, Any], *code: str) -> None:
    for block in code:
        exec(block, names)


def predicted(unet: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    meaning = torch.randn(2, 6, WIDTH, generator=generator)
    with torch.no_grad():
        return unet(latents, torch.tensor([10, 700]), encoder_hidden_states=meaning).sample


def assert_diffusers_predicts_the_same(names: dict[str, Any]) -> None:
    trained = predicted(names["unet"])
    assert (trained - predicted(pipeline().unet)).abs().max() > 1e-4
    torch.testing.assert_close(predicted(names["fresh"].unet), trained, rtol=0, atol=1e-5)


def test_the_guide_trains_delora_which_starts_at_zero(names):
    assert torch.equal(predicted(names["unet"]), predicted(pipeline().unet))
    run(names, LOSS, LOOP, EXPORT, LOAD)
    assert_diffusers_predicts_the_same(names)


def attached(names: dict[str, Any], model: nn.Module) -> None:
    names["unet"] = model
    names["optimizer"] = torch.optim.AdamW(rankwise.parameter_groups(model, lr=1e-2))


@pytest.mark.parametrize("attach", [lora_sb, abm_lora], ids=lambda each: each.__name__)
def test_so_do_inits_that_read_batches(names, attach: Attach):
    run(names, LOSS)
    names["pipe"] = pipeline()
    attached(names, attach(names["pipe"].unet, names["loss_of"]))
    run(names, LOOP, EXPORT, LOAD)
    assert_diffusers_predicts_the_same(names)


def test_so_does_a_chain(names):
    names["pipe"] = pipeline()
    model = get_peft_model(names["pipe"].unet, LoraConfig(**ATTENTION))
    with rankwise.Chain(model, side="right") as chain:
        attached(names, model)
        run(names, LOSS, LOOP)
        chain.fold(names["optimizer"])
        run(names, LOOP)
    run(names, EXPORT, LOAD)
    assert_diffusers_predicts_the_same(names)
