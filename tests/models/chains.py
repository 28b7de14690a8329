"""A network under a LoRA, chains on it, and what the tests of chains ask of both."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from rankwise.methods.adapters.bridge import adapted_layers
from rankwise.methods.chain.chain import Chain
from tests.models.networks import MixedNetwork

NAMES = ("base_model.model.first", "base_model.model.second")


def build(dtype: torch.dtype = torch.float32, seed: int = 0, **config) -> PeftModel:
    """The network under a LoRA of rank 2 and scaling 3, the same for the same seed."""
    settings = {"r": 2, "lora_alpha": 6, "target_modules": ["first", "second"], **config}
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        torch.manual_seed(seed)
        network = MixedNetwork().to(dtype)
        nn.init.normal_(network.second.weight, std=0.5)
        return get_peft_model(network, LoraConfig(**settings))


def inputs(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(9, 7, generator=torch.Generator().manual_seed(1)).to(dtype)


def outputs(model: nn.Module, x: Tensor | None = None) -> Tensor:
    dtype = model.base_model.model.first.weight.dtype
    with torch.no_grad():
        return model(inputs(dtype) if x is None else x)["logits"]


def base_weights(model: nn.Module) -> list[Tensor]:
    return [layer.get_base_layer().weight.detach().clone() for layer in layers(model).values()]


def layers(model: nn.Module) -> dict[str, nn.Module]:
    return adapted_layers(model)


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    x = inputs(model.base_model.model.first.weight.dtype)
    labels = torch.arange(9) % 5
    for _ in range(steps):
        optimizer.zero_grad()
        model(x, labels)["loss"].backward()
        optimizer.step()


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(trained(model), lr=0.05)


def chained(model: nn.Module, folds: int = 3, **options) -> Chain:
    """An open chain with ``folds`` trained blocks folded and another one trained."""
    chain = Chain(model, **options)
    optimizer = optimizer_of(model)
    for _ in range(folds):
        train(model, optimizer)
        chain.fold(optimizer)
    train(model, optimizer)
    return chain


def same(first: Iterable[Tensor], second: Iterable[Tensor]) -> bool:
    """Say whether two lists of tensors are equal bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
