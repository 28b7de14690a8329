"""Rows of tokens: sequences of different lengths, padded only to the longest of their batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rankwise.core.errors import DataError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.tasks.splits import Batch, Rows

LabelColumn = Tensor | Sequence[Sequence[int]]


class TokenSplit(Rows):
    """Token sequences with one label a row, or with a label sequence a row.

    A batch has the sequence columns as int64 of shape (rows, longest), ``attention_mask`` of the
    same shape, 1 where a token is real, and ``labels``: as given for one label a row, else of shape
    (rows, longest label), filled up with -100, which no loss counts.

    Args:
        sequences: Columns of token numbers, ``input_ids`` among them; equal lengths within a row.
        labels: A tensor of shape (rows,), or a sequence of token numbers a row.
        padding: The number that fills up each column.

    Raises:
        DataError: There are no rows, or columns differ in their number.
    """

    def __init__(
        self,
        sequences: Mapping[str, Sequence[Sequence[int]]],
        labels: LabelColumn,
        *,
        padding: Mapping[str, int],
    ) -> None:
        counts = {name: len(column) for name, column in sequences.items()} | {"labels": len(labels)}
        if len(set(counts.values())) != 1 or not all(counts.values()):
            raise DataError(f"columns must have one number of rows of at least 1, got {counts}")
        self._sequences = {name: _tensors(column) for name, column in sequences.items()}
        self._labels = labels if isinstance(labels, Tensor) else _tensors(labels)
        self._padding = dict(padding)
        self.lengths = [len(tokens) for tokens in self._sequences["input_ids"]]

    def __len__(self) -> int:
        return len(self._labels)

    def take(self, index: Tensor | slice) -> Batch:
        """Return the rows ``index`` as one batch, padded to its longest row."""
        rows = range(len(self))[index] if isinstance(index, slice) else index.tolist()
        batch = {
            name: _padded([column[row] for row in rows], self._padding[name])
            for name, column in self._sequences.items()
        }
        batch["attention_mask"] = _padded(
            [torch.ones_like(self._sequences["input_ids"][row]) for row in rows], 0
        )
        if isinstance(self._labels, Tensor):
            batch["labels"] = self._labels[index]
        else:
            batch["labels"] = _padded([self._labels[row] for row in rows], IGNORED_LABEL)
        return batch


def _tensors(rows: Sequence[Sequence[int]]) -> list[Tensor]:
    return [torch.tensor(row, dtype=torch.int64) for row in rows]


def _padded(rows: list[Tensor], value: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)
