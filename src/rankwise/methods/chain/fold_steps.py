"""At which optimizer steps a chain folds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rankwise.core.errors import SettingsError


def check_fractions(fractions: Sequence[float]) -> None:
    """Refuse fractions of a run at which nothing could be folded.

    Raises:
        SettingsError: They are not between 0 and 1, or do not rise.
    """
    is_rising = all(first < second for first, second in itertools.pairwise(fractions))
    if not is_rising or not all(0 < each < 1 for each in fractions):
        raise SettingsError(
            f"fractions of a run must rise and lie between 0 and 1, got {list(fractions)}"
        )


def fold_steps(
    steps: int, *, every: int | None = None, fractions: Sequence[float] = ()
) -> list[int]:
    """Return after which of ``steps`` optimizer steps a chain folds; at the very end it does not.

    Args:
        steps: Of the whole run.
        every: After every so many steps.
        fractions: After these fractions of the run, rounded to whole steps.

    Example:
        >>> fold_steps(10, every=4), fold_steps(10, fractions=[0.25, 0.8]), fold_steps(10)
        ([4, 8], [2, 8], [])
    """
    if every is not None:
        return list(range(every, steps, every))
    return sorted({step for each in fractions if 0 < (step := round(each * steps)) < steps})
