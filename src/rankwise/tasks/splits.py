"""The rows of a task: three splits, each of which cuts batches out of rows held in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rankwise.core.errors import DataError

Batch = dict[str, Tensor]


class Rows(ABC):
    """Rows in a fixed order, from which whole batches are taken; ``labels`` is one of their parts.

    Attributes:
        lengths: Per row, its number of tokens, where rows differ in it: batches of like lengths
            need little padding.
    """

    lengths: Sequence[int] | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, index: Tensor | slice) -> Batch:
        """Return the rows ``index``, int64 of shape (rows,) or a slice, as one batch."""

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the rows in order, ``size`` at a time; the last batch may be smaller."""
        for index in torch.arange(len(self)).split(size):
            yield self.take(index)


class TensorSplit(Rows):
    """Rows held as tensors of equal first dimension."""

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1 or not all(lengths.values()):
            raise DataError(f"columns must have one length of at least 1, got {lengths}")
        self.columns = dict(columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def take(self, index: Tensor | slice) -> Batch:
        """Return the rows ``index`` as one batch."""
        return {name: column[index] for name, column in self.columns.items()}


@dataclass(frozen=True)
class Splits:
    """Training, validation and test rows. Choices are made on validation; test is read once.

    ``facts`` is what a record should say about the data: where they come from, what was cut.
    """

    train: Rows
    validation: Rows
    test: Rows
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rehearsal:
    """What shows that a run can be done, without weights and without the data.

    Attributes:
        model: On the meta device.
        batch: One made-up row that went the way of all rows, on the meta device too.
        training_rows: How many there would be.
    """

    model: nn.Module
    batch: Batch
    training_rows: int

    @classmethod
    def of(cls, model: nn.Module, rows: Rows, training_rows: int) -> Rehearsal:
        """Take the first of ``rows``."""
        batch = rows.take(slice(0, 1))
        # A single row has no padding to hide, and models look at the values of a mask, or of
        # positions that part packed rows.
        for name in ("attention_mask", "position_ids"):
            batch.pop(name, None)
        return cls(model, {name: each.to("meta") for name, each in batch.items()}, training_rows)
