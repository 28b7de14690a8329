"""At which optimizer steps a chain folds, and what is said of one that never does."""

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


def warning_of_no_fold(
    steps: int,
    *,
    every: int | None,
    fractions: Sequence[float],
    has_frozen_sketch: bool,
    one_block: str,
) -> str:
    """Say what a chain trains that never folds, and what to do.

    Args:
        steps: Of the whole run.
        every: As of :func:`fold_steps`.
        fractions: Likewise.
        has_frozen_sketch: Whether one factor of a block does not train.
        one_block: What asks for a chain of one block.
    """
    block = f"a block is {every} steps long"
    if every is None:
        block = f"no step of it is at {list(fractions)} of the run"
    method = "AsymmLoRA, not RAC-LoRA" if has_frozen_sketch else "one adapter, and no chain"
    return (
        f"this chain will never fold: {block} and the training has {steps}, so that it trains "
        f"{method}. Fold more often (every at most {max(1, steps // 2)}), train longer, or "
        f"say {one_block}"
    )
