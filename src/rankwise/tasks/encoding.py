"""From texts to token numbers, with the count of those that were cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from rankwise.core.errors import SettingsError

# A tokenizer that knows no limit says so with a huge number.
_NO_LIMIT = 10**9


class Encoded(NamedTuple):
    """Columns of token numbers by name, and how many rows were cut to the greatest length."""

    sequences: dict[str, list[list[int]]]
    truncated: int


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, ...]], *, max_length: int
) -> Encoded:
    """Turn texts, one or a pair a row, into tokens with the tokenizer's own special tokens.

    Of a row that is longer than ``max_length`` tokens the end is cut, of a pair the end of its
    longer text.

    Raises:
        SettingsError: The model cannot read so many tokens.
    """
    limit = tokenizer.model_max_length
    if limit < _NO_LIMIT and max_length > limit:
        raise SettingsError(
            f"task.max_length must be at most {limit}, what the model reads, got {max_length}"
        )
    columns = [list(column) for column in zip(*texts, strict=True)]
    whole = _tokens(tokenizer, columns)
    long = [row for row, tokens in enumerate(whole["input_ids"]) if len(tokens) > max_length]
    if long:
        parts = [[column[row] for row in long] for column in columns]
        cut = _tokens(tokenizer, parts, truncation=True, max_length=max_length)
        for name, rows in cut.items():
            for row, tokens in zip(long, rows, strict=True):
                whole[name][row] = tokens
    return Encoded(whole, len(long))


def _tokens(tokenizer: Any, columns: list[list[str]], **cut: Any) -> dict[str, list[list[int]]]:
    # `verbose` warns of rows longer than the model's limit: they are cut in a second pass.
    return dict(tokenizer(*columns, return_attention_mask=False, verbose=False, **cut))
