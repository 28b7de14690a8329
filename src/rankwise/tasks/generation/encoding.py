"""Rows to train on as tokens: the loss counts the response and its end, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rankwise.core.errors import DataError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.tasks.generation.instructions import Instruction
from rankwise.tasks.generation.prompts import Prompts
from rankwise.tasks.tokens import TokenSplit


class EncodedInstructions(NamedTuple):
    """The rows, how many were cut at their end, and how many had no room for a response."""

    rows: TokenSplit
    truncated: int
    left_out: int


def encode_instructions(
    prompts: Prompts, instructions: Sequence[Instruction], *, max_length: int
) -> EncodedInstructions:
    """Turn prompts and responses into tokens with labels for the responses.

    A row is prompt, response, end token. One longer than ``max_length`` loses its end, and so does
    not teach where to stop; one whose prompt alone fills ``max_length`` is left out. Both are
    counted. The end token is attended to and counts in the loss, also where it is the padding.

    Raises:
        DataError: A response is empty, or no row has room for its response.
    """
    prompted = [prompts.text([row.instruction], context=row.context) for row in instructions]
    for number, row in enumerate(instructions):
        if not row.response.strip():
            raise DataError(f"row {number} has an empty response: fill it or drop the row")
    whole = [
        text + prompts.response(row.response)
        for text, row in zip(prompted, instructions, strict=True)
    ]
    inputs, labels, truncated, left_out = [], [], 0, 0
    for prompt, tokens in zip(prompts.tokens(prompted), prompts.tokens(whole), strict=True):
        tokens.append(prompts.end)
        unlearned = shared_start(prompt, tokens)
        if unlearned >= max_length:
            left_out += 1
            continue
        truncated += len(tokens) > max_length
        inputs.append(tokens[:max_length])
        labels.append([IGNORED_LABEL] * unlearned + tokens[unlearned:max_length])
    if not inputs:
        raise DataError(
            f"no prompt of {len(instructions)} rows leaves room for a response within "
            f"{max_length} tokens: raise --task.max_length"
        )
    rows = TokenSplit({"input_ids": inputs}, labels, padding={"input_ids": prompts.padding})
    return EncodedInstructions(rows, truncated, left_out)


def shared_start(prompt: Sequence[int], tokens: Sequence[int]) -> int:
    """Return how many tokens the prompt alone and the whole row have in common at their start.

    Where a tokenizer joins the two at the seam, the token that it makes there is learned.
    """
    for position, (ours, theirs) in enumerate(zip(prompt, tokens)):
        if ours != theirs:
            return position
    return min(len(prompt), len(tokens))
