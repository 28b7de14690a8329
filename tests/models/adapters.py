"""The tiny network that the adapters are tested on, and how to attach and train one."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig

TARGETS = ["first", "second"]


class Network(nn.Module):
    """Two layers to adapt, stored either way, and a head to leave alone."""

    def __init__(self, layout: str = "Linear", dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if layout == "Linear":
                self.first, self.second = nn.Linear(12, 10), nn.Linear(10, 8)
            else:
                self.first, self.second = Conv1D(10, 12), Conv1D(8, 10)
                for layer in (self.first, self.second):
                    nn.init.normal_(layer.weight, std=0.3)
            self.head = nn.Linear(8, 5)
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


def inputs(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(7, 12, generator=torch.Generator().manual_seed(1)).to(dtype)


def config(kind: str, layout: str = "Linear", **options) -> PeftConfig:
    options = {"r": 3, "target_modules": TARGETS, **options}
    match kind:
        case "lora_xs":
            return LoraXSConfig(**options)
        case "delora":
            return DeloraConfig(**options)
        case _:
            return LoraConfig(**options, fan_in_fan_out=layout == "Conv1D")


def attach(
    kind: str, *, layout: str = "Linear", dtype: torch.dtype = torch.float32, **options
) -> PeftModel:
    torch.manual_seed(2)
    return get_peft_model(Network(layout, dtype), config(kind, layout, **options))


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
