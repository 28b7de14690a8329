"""Pairs of completions as tokens, and the rows that batches of pairs are cut from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rankwise.core.errors import DataError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.tasks.generation.encoding import shared_start
from rankwise.tasks.generation.prompts import Prompts
from rankwise.tasks.own.pairs import Pair, Said
from rankwise.tasks.own.sample_tokens import check_template, gap_between, written
from rankwise.tasks.splits import Batch, Rows


class PairTokens(NamedTuple):
    """The tokens of two rows with one beginning, and where what is compared begins in both."""

    chosen: list[int]
    rejected: list[int]
    start: int


class PairRows(Rows):
    """Pairs of token sequences. A batch has, for n pairs padded to L tokens,

    ``input_ids``, ``attention_mask`` and ``targets`` of shape (n, 2, L), the chosen one first,
    where targets are tokens that count and else -100; ``pairs``, the number of each pair among
    those of the task, and ``labels``, 1.0 for each: the first is the better one.

    Args:
        pairs: The tokens.
        first: The number of the first pair.
        padding: The number that fills up tokens.
    """

    def __init__(self, pairs: Sequence[PairTokens], *, first: int, padding: int) -> None:
        self._pairs = [(torch.tensor(c), torch.tensor(r), start) for c, r, start in pairs]
        self._first, self._padding = first, padding
        # What tells rows of other tokens apart.
        self.digest = hashlib.sha256(repr(list(pairs)).encode()).digest()
        self.lengths = [max(len(c), len(r)) for c, r, _ in self._pairs]

    def __len__(self) -> int:
        return len(self._pairs)

    def take(self, index: Tensor | slice) -> Batch:
        """Return the pairs ``index`` as one batch, padded to its longest row."""
        numbers = list(range(len(self))[index]) if isinstance(index, slice) else index.tolist()
        tokens = [side for number in numbers for side in self._pairs[number][:2]]
        starts = torch.tensor([self._pairs[number][2] for number in numbers])
        inputs = pad_sequence(tokens, batch_first=True, padding_value=self._padding)
        lengths = torch.tensor([len(each) for each in tokens]).unsqueeze(1)
        places = torch.arange(inputs.shape[1])
        is_real = places < lengths
        counts = is_real & (places >= starts.repeat_interleave(2).unsqueeze(1))
        batch = {
            "input_ids": inputs,
            "attention_mask": is_real.long(),
            "targets": inputs.where(counts, torch.tensor(IGNORED_LABEL)),
        }
        batch = {name: each.unflatten(0, (-1, 2)) for name, each in batch.items()}
        batch["pairs"] = torch.tensor(numbers) + self._first
        batch["labels"] = torch.ones(len(numbers))
        return batch


def pair_tokens(
    tokenizer: Any, rows: Sequence[Pair], *, max_length: int, place: str
) -> tuple[list[PairTokens], dict[str, int]]:
    """Return pairs as tokens; one without room for what is compared is left out, and counted.

    As TRL does, the prompt ends where its tokens and those of a whole row part, and what is longer
    than ``max_length`` loses its end.

    Raises:
        DataError: No pair has room.
        ModelError: The tokenizer has no end token, or no chat template where rows are
            conversations.
    """
    prompts = Prompts(tokenizer)
    encoded, truncated = [], 0
    for row in rows:
        pair = _conversation(tokenizer, row) if row.is_conversation else _texts(prompts, row)
        if pair.start < min(max_length, len(pair.chosen), len(pair.rejected)):
            truncated += max(len(pair.chosen), len(pair.rejected)) > max_length
            encoded.append(
                PairTokens(pair.chosen[:max_length], pair.rejected[:max_length], pair.start)
            )
    if not encoded:
        raise DataError(
            f"{place}: no row has room for what is compared within {max_length} tokens: raise "
            "--task.max_length"
        )
    return encoded, {"truncated": truncated, "left_out": len(rows) - len(encoded)}


def _texts(prompts: Prompts, row: Pair) -> PairTokens:
    prompt, *sides = map(str, row)
    texts = [prompt + gap_between(prompt, side) + side for side in sides] if prompt else sides
    start, *whole = prompts.tokens([prompt, *texts])
    return _compared(start if prompt else None, [[*each, prompts.end] for each in whole])


def _conversation(tokenizer: Any, row: Pair) -> PairTokens:
    check_template(tokenizer)
    before = _messages(row.prompt)
    texts = [written(tokenizer, before + _messages(side)) for side in row[1:]]
    asked = written(tokenizer, before, asks=True)
    prompt, *whole = Prompts(tokenizer, "chat").tokens([asked, *texts])
    return _compared(prompt, whole)


def _compared(prompt: list[int] | None, whole: list[list[int]]) -> PairTokens:
    chosen, rejected = whole
    if prompt is None:
        start = shared_start(chosen, rejected)
    else:
        start = min(shared_start(prompt, each) for each in whole)
    # The first token of a row is predicted by nothing.
    return PairTokens(chosen, rejected, max(start, 1))


def _messages(said: Said) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in said]
