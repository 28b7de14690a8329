"""Reading and writing tensors that may be sharded over processes (FSDP2's ``DTensor``).

While a layer computes, FSDP2 has its parameters whole; at other times each process holds its rows.
Every process has to come to these functions, in the same order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Tell whether the tensor is spread over processes."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Return the tensor with all its rows, itself if it has them."""
    sharded: Any = tensor
    return sharded.full_tensor() if is_sharded(tensor) else tensor


@torch.no_grad()
def assign(target: Tensor, value: Tensor) -> None:
    """Write ``value``, the same in all processes, into ``target``; each keeps its rows of it."""
    if is_sharded(target):
        from torch.distributed.tensor import distribute_tensor  # some 0.1 s, for few

        sharded: Any = target
        value = value.to(target.device, target.dtype)
        places = (sharded.device_mesh, sharded.placements)
        # Nothing is sent, as every process has the value already.
        value = distribute_tensor(value, *places, src_data_rank=None)
    target.copy_(value)
