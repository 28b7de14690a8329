"""The batches that an estimate or an initialization reads, whatever they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from rankwise.core.errors import DataError


def collect_batches(batches: Iterable[Any]) -> list[Any]:
    """Read ``batches`` once and keep them, so that several passes see the same ones.

    Raises:
        DataError: There is none, or ``batches`` is one batch instead of a series of them.
    """
    if isinstance(batches, (Mapping, Tensor, str)):
        raise DataError(
            "batches must be a list or another series of batches, got one "
            f"{type(batches).__name__}: wrap it in a list"
        )
    collected = list(batches)
    if not collected:
        raise DataError("batches is empty: pass at least one batch")
    return collected


def to_device(batch: Any, device: torch.device) -> Any:
    """Return ``batch`` with its tensors on ``device``; mappings, tuples and lists are entered."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if type(batch) in (tuple, list):  # not their subclasses, which are built in their own ways
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def count_samples(batch: Any) -> int:
    """Return the number of samples in ``batch``: the first dimension of its first tensor.

    Raises:
        DataError: The batch holds no tensor with a batch dimension.
    """
    for tensor in _tensors(batch):
        if tensor.dim():
            return len(tensor)
    raise DataError(
        f"a batch must hold a tensor whose first dimension counts its samples, got "
        f"{type(batch).__name__} without one"
    )


def _tensors(batch: Any) -> Iterable[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _tensors(value)
    elif isinstance(batch, (tuple, list)):
        for value in batch:
            yield from _tensors(value)
