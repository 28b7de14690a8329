"""Booleans kept as bits: eight to a byte, where a boolean tensor spends a byte on each."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Bits(NamedTuple):
    """A boolean tensor of ``shape``, eight values to a byte of ``data``."""

    data: Tensor
    shape: torch.Size


def pack_bits(values: Tensor) -> Bits:
    """Pack a boolean tensor of any shape."""
    flat = values.flatten()
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)).view(-1, 8)
    return Bits(
        (padded.to(torch.uint8) << _places(values.device)).sum(1, dtype=torch.uint8), values.shape
    )


def unpack_bits(bits: Bits) -> Tensor:
    """Return the boolean tensor that was packed, on the device of its bits."""
    flat = (bits.data.unsqueeze(1) >> _places(bits.data.device) & 1).flatten()
    return flat[: math.prod(bits.shape)].view(bits.shape).bool()


def _places(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)
