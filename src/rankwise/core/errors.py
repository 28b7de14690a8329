"""The errors of Rankwise: one base, few leaves.

RankwiseError
├── SettingsError   a setting, recipe, option or argument is wrong          (also a ValueError)
├── DataError       a data file, a batch or a label is wrong                (also a ValueError)
├── ModelError      a model or layer cannot carry what was asked            (also a ValueError)
├── AdapterError    an adapter, ledger or record on disk cannot be read     (also a ValueError)
├── ChainError      a chain is asked for something it cannot do now         (also a RuntimeError)
└── TrainingError   training cannot go on, for example a non-finite loss    (also a RuntimeError)

Each message says what was wrong, what was received and what to do. The command line prints it and
exits with code 2; anything else is a fault of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# More names than these are no help in a message.
_LISTED = 100


class RankwiseError(Exception):
    """Base of every error that Rankwise raises on purpose."""


class SettingsError(RankwiseError, ValueError):
    """A setting, recipe, option or argument is wrong."""


class DataError(RankwiseError, ValueError):
    """A data file, a batch or a label is wrong."""


class ModelError(RankwiseError, ValueError):
    """A model or one of its layers cannot carry what was asked."""


class AdapterError(RankwiseError, ValueError):
    """An adapter, ledger or record on disk cannot be read."""


class ChainError(RankwiseError, RuntimeError):
    """A chain of adapters is asked for something that it cannot do in its present state."""


class TrainingError(RankwiseError, RuntimeError):
    """Training cannot go on."""


def nearest_names(name: str, known: Iterable[str]) -> str:
    """Say which known names resemble ``name``, for the end of an error message."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(repr(match) for match in close)}?"
    if len(choices) > _LISTED:
        return f"none of the {len(choices):,} that there are resembles it"
    return f"choose from {', '.join(choices)}"
