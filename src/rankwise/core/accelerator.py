"""The GPU of this process: which one it is, and models brought to it."""

from __future__ import annotations

import os

import torch
from torch import nn

# Of the memory that is free there; the rest is for what a forward pass takes.
_SHARE_FOR_WEIGHTS = 0.8


def local_device() -> torch.device:
    """Return the GPU that a launcher gives this process, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def on_accelerator(model: nn.Module) -> nn.Module:
    """Bring a model that lies in main memory to the GPU of this process, and return it.

    One that lies elsewhere already, or on several devices, stays.
    """
    if {each.device.type for each in model.parameters()} == {"cpu"}:
        model.to(local_device())
    return model


def have_room(*models: nn.Module) -> bool:
    """Tell whether there is a GPU whose memory takes these models at once."""
    device = local_device()
    if device.type == "cpu":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    needed = sum(each.nbytes for model in models for each in model.parameters())
    return needed <= _SHARE_FOR_WEIGHTS * free
