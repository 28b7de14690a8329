"""Answers to the eight commonsense tasks: the first option that a model names is what it chose.

As in LoRA-SB's evaluation (CERT-Lab/lora-sb, commit 4feb81c) capital letters do not matter. A text
in which no option is named is no answer.

Where we differ: an option is a word of its own, so ``answer10`` is not ``answer1``, and ``untrue``
is not ``true``. What the released code counts is in ``published.py``.
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

    >>> first_option("The correct answer is True, not false", ("true", "false"))
    'true'
    """
    alternatives = "|".join(map(re.escape, choices))
    found = re.search(rf"(?<!\w)(?:{alternatives})(?!\w)", text.lower())
    return None if found is None else found.group()


def grade_choice(text: str, reference: str, choices: Sequence[str]) -> bool | None:
    """Say whether the first option in ``text`` is the right one; None: no option is named."""
    chosen = first_option(text, choices)
    return None if chosen is None else chosen == reference
