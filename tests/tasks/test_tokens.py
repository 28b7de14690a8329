"""Batches of tokens are padded to their own longest row, and nothing that is padding counts."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.errors import DataError
from rankwise.tasks.tokens import TokenSplit

TOKENS = {"input_ids": [[5, 6, 7], [8], [9, 10]], "token_type_ids": [[0, 0, 1], [0], [0, 1]]}
PADDING = {"input_ids": 1, "token_type_ids": 0}


def test_a_batch_is_as_long_as_its_longest_row():
    batch = TokenSplit(TOKENS, torch.tensor([0, 1, 1]), padding=PADDING).take(torch.tensor([2, 1]))
    assert batch["input_ids"].tolist() == [[9, 10], [8, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 1], [0, 0]]
    assert batch["labels"].tolist() == [1, 1]


def test_label_sequences_are_filled_up_with_the_label_that_no_loss_counts():
    split = TokenSplit(TOKENS, [[3, 2], [4], [3, 2]], padding=PADDING)
    assert split.take(slice(0, 2))["labels"].tolist() == [[3, 2], [4, -100]]


def test_a_token_that_equals_the_padding_is_real():
    split = TokenSplit({"input_ids": [[1, 1], [7]]}, torch.zeros(2), padding={"input_ids": 1})
    assert split.take(slice(None))["attention_mask"].tolist() == [[1, 1], [1, 0]]


def test_lengths_are_those_of_the_rows():
    assert TokenSplit(TOKENS, torch.zeros(3), padding=PADDING).lengths == [3, 1, 2]


@pytest.mark.parametrize(("rows", "labels"), [(2, 3), (0, 0)])
def test_ragged_or_empty_columns_are_refused(rows, labels):
    with pytest.raises(DataError, match="one number of rows of at least 1"):
        TokenSplit({"input_ids": [[1]] * rows}, torch.zeros(labels), padding={"input_ids": 0})
