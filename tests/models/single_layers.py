"""DeLoRA on single layers."""

from __future__ import annotations

import torch
from peft import get_peft_model
from torch import nn

from rankwise.methods.adapters.delora import DeloraConfig


def wrap(layer: nn.Module, **options):
    model = get_peft_model(nn.Sequential(layer), DeloraConfig(target_modules=["0"], **options))
    return model.base_model.model[0]


def double_linear(in_features=6, out_features=8):
    torch.manual_seed(0)
    return nn.Linear(in_features, out_features, dtype=torch.float64)
