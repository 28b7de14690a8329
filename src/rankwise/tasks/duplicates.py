"""Rows that stand in two splits, where a score is memory: how they are kept and told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DUPLICATES = "duplicates_of_train"
"""Of a split held out, in the facts of its data: how many of its rows stand in training too."""


def told_duplicates(facts: Mapping[str, Any]) -> list[str]:
    """Say of which splits rows stand in training too, a sentence each."""
    sentences = []
    for split in ("validation", "test"):
        found = facts.get(split)
        if isinstance(found, dict) and (count := found.get(DUPLICATES)):
            sentences.append(
                f"{count:,} of the {found['rows']:,} rows of {split} stand in training too: "
                "a score on these is memory"
            )
    return sentences
