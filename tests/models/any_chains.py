"""Chains of LoRA-XS and DeLoRA over two layers, and the kinds that tests go through."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from peft import PeftModel, get_peft_model

from tests.models import chains
from tests.models.adapters import KINDS
from tests.models.networks import MixedNetwork

OPTIONS = {
    "lora_xs": {"lora_alpha": 3},
    "delora": {"delora_lambda": 2.0},
    "delora in the paper's form": {"delora_lambda": 2.0, "residual_lambda": "initial"},
    "delora of kept strength": {"delora_lambda": 2.0, "learn_lambda": False},
}
kinds = pytest.mark.parametrize("kind", OPTIONS)
two_kinds = pytest.mark.parametrize("kind", ["lora_xs", "delora"])
chained = partial(chains.chained, folds=2)
SIDES = {"lora_xs": 2, "delora": 4}  # the rank of a block that is put aside


def build(kind: str, dtype: torch.dtype = torch.float32, **options) -> PeftModel:
    """A ``Linear`` and a ``Conv1D`` under an adapter of rank 2, the same each time."""
    settings = {"r": 2, "target_modules": ["first", "second"], **OPTIONS[kind], **options}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MixedNetwork().to(dtype)
        torch.nn.init.normal_(network.second.weight, std=0.5)
        return get_peft_model(network, KINDS[kind.partition(" ")[0]](**settings))


def pretrained(kind: str) -> torch.Tensor:
    model = build(kind)
    with model.disable_adapter():
        return chains.outputs(model)


def own_change(layer) -> torch.Tensor:
    B, A = layer.own_factors("default")
    return B @ A
