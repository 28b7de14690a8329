"""Splits hand out rows by index and in order, and refuse ragged columns."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.errors import DataError
from rankwise.tasks.splits import TensorSplit


def rows(count: int = 5) -> TensorSplit:
    return TensorSplit(
        {"features": torch.arange(count * 2).view(count, 2), "labels": torch.arange(count)}
    )


def test_batches_hold_every_row_once_in_order():
    batches = list(rows().batches(2))
    assert [len(batch["labels"]) for batch in batches] == [2, 2, 1]
    assert torch.cat([batch["labels"] for batch in batches]).tolist() == [0, 1, 2, 3, 4]


def test_rows_are_taken_by_index():
    batch = rows().take(torch.tensor([3, 1]))
    assert batch["features"].tolist() == [[6, 7], [2, 3]]
    assert batch["labels"].tolist() == [3, 1]


@pytest.mark.parametrize("lengths", [(2, 3), (0, 0)])
def test_ragged_or_empty_columns_are_refused(lengths):
    columns = {"features": torch.zeros(lengths[0], 2), "labels": torch.zeros(lengths[1])}
    with pytest.raises(DataError, match="one length of at least 1"):
        TensorSplit(columns)
