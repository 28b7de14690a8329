"""The kinds of adapters, and one of them on the plain network.

A new kind is an entry of ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from tests.models.networks import Network

TARGETS = ["first", "second"]
OURS: dict[str, Callable[..., PeftConfig]] = {"lora_xs": LoraXSConfig, "delora": DeloraConfig}
KINDS: dict[str, Callable[..., PeftConfig]] = {**OURS, "lora": LoraConfig}


def config(kind: str, layout: str = "Linear", **options) -> PeftConfig:
    options = {"r": 3, "target_modules": TARGETS, **options}
    if kind == "lora":  # ours look at the layer instead
        options["fan_in_fan_out"] = layout == "Conv1D"
    return KINDS[kind](**options)


def attach(
    kind: str, *, layout: str = "Linear", dtype: torch.dtype = torch.float32, **options
) -> PeftModel:
    torch.manual_seed(2)
    return get_peft_model(Network(layout, dtype), config(kind, layout, **options))


def inputs(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(7, 12, generator=torch.Generator().manual_seed(1)).to(dtype)


def train(model: nn.Module, *, steps: int = 3, lr: float = 1e-2) -> None:
    """Train whatever is trainable towards a fixed target, so that every adapter ends in motion."""
    dtype = next(model.parameters()).dtype
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    x = inputs(dtype)
    for _ in range(steps):
        (model(x).float() - 1).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def layers(model: PeftModel) -> list[nn.Module]:
    return [model.base_model.model.get_submodule(name) for name in TARGETS]
