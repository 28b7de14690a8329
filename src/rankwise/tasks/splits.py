"""Data that fits in memory: a split is a few tensors of one length, and a task has three splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from rankwise.core.errors import DataError


class TensorSplit(Dataset[dict[str, Tensor]]):
    """Rows held as tensors of equal first dimension; ``labels`` is one of them.

    It is a map-style data set, so a ``Trainer`` takes it as it is, and it cuts whole batches
    without touching single rows, which is what makes tiny models fast.
    """

    def __init__(self, columns: dict[str, Tensor]) -> None:
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1 or not all(lengths.values()):
            raise DataError(f"columns must have one length of at least 1, got {lengths}")
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: column[index] for name, column in self.columns.items()}

    def take(self, index: Tensor | slice) -> dict[str, Tensor]:
        """Return the rows ``index`` as one batch."""
        return {name: column[index] for name, column in self.columns.items()}

    def batches(self, size: int) -> Iterator[dict[str, Tensor]]:
        """Yield the rows in order, ``size`` at a time; the last batch may be smaller."""
        for index in torch.arange(len(self)).split(size):
            yield self.take(index)


@dataclass(frozen=True)
class Splits:
    """Training, validation and test rows. Choices are made on validation; test is read once."""

    train: TensorSplit
    validation: TensorSplit
    test: TensorSplit
