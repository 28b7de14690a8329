"""Adapters on single layers."""

from __future__ import annotations

import torch
from peft import PeftConfig, get_peft_model
from torch import nn


def wrapped(kind: type[PeftConfig], layer: nn.Module, **options):
    """The layer of an adapter around ``layer``."""
    model = get_peft_model(nn.Sequential(layer), kind(target_modules=["0"], **options))
    return model.base_model.model[0]


def double_linear(in_features=6, out_features=8):
    torch.manual_seed(0)
    return nn.Linear(in_features, out_features, dtype=torch.float64)
