"""Answers to the eight commonsense tasks: the first option that a model names is what it chose.

The patterns are those of LoRA-SB's evaluation (CERT-Lab/lora-sb, commit 4feb81c), which takes them
from LLM-Adapters. A text in which no option is named is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


def options(word: str, count: int) -> tuple[str, ...]:
    """Return the options of a task: a word and a number from 1.

    >>> options("ending", 4)
    ('ending1', 'ending2', 'ending3', 'ending4')
    """
    return tuple(f"{word}{number}" for number in range(1, count + 1))


def first_option(text: str, choices: Sequence[str]) -> str | None:
    """Return the one of ``choices`` that stands first in ``text``, or None.

    >>> first_option("the correct answer is true, not false", ("true", "false"))
    'true'
    """
    found = re.search("|".join(map(re.escape, choices)), text)
    return None if found is None else found.group()


def grade_choice(text: str, reference: str, choices: Sequence[str]) -> bool | None:
    """Say whether the first option in ``text`` is the right one; None: no option is named."""
    chosen = first_option(text, choices)
    return None if chosen is None else chosen == reference
