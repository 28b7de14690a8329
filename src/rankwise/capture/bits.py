"""Booleans kept as bits: eight to a byte, where a boolean tensor spends a byte on each."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def unpack_bits(packed: Sequence[Bits]) -> list[Tensor]:
    """Return the boolean tensors that were packed, on the devices of their bits.

    All of one device take the operations of one.
    """
    devices = {bits.data.device for bits in packed}
    if len(devices) > 1:
        return [unpack_bits([bits])[0] for bits in packed]
    places = torch.cat([bits.data for bits in packed]).unsqueeze(1) >> _places(*devices)
    flats = (places & 1).view(torch.bool).flatten().split([8 * len(bits.data) for bits in packed])
    return [
        flat[: math.prod(bits.shape)].view(bits.shape)
        for flat, bits in zip(flats, packed, strict=True)
    ]


def _places(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)
