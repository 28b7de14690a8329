"""What a model answered, read from its output: one prediction and one label a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rankwise.tasks.splits import Batch

Value = int | float
Answer = Value | str | tuple[str, ...]
"""What one row says: a class or a number, a text, or the class of each of its words."""


class Answers(NamedTuple):
    """The rows of a batch: what was predicted (None: no answer at all) and what is right."""

    predictions: Sequence[Answer | None]
    labels: Sequence[Answer]


def largest_logit(output: Mapping[str, Any], batch: Batch) -> Answers:
    """Read a classifier: the class of the largest logit, (rows, classes), against the label."""
    return Answers(output["logits"].argmax(dim=-1).tolist(), batch["labels"].tolist())


def single_output(output: Mapping[str, Any], batch: Batch) -> Answers:
    """Read a regression: the one output of each row, (rows, 1), against the label."""
    return Answers(output["logits"].float().squeeze(-1).tolist(), batch["labels"].tolist())
