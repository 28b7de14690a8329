"""One row of a GLUE task, and the rows of one split with where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

NO_TEST_LABELS = (
    "GLUE publishes labels for the test split of mrpc alone: choose protocol 'revisited', which "
    "cuts validation and test out of the dev split"
)


@dataclass(frozen=True, slots=True)
class Example:
    """One or two texts; the label is a class from 0, or the score of a regression."""

    texts: tuple[str, ...]
    label: int | float


class Part(NamedTuple):
    """The rows of one split in the order of their source, which ``source`` names for records."""

    examples: list[Example]
    source: str
