"""At which optimizer steps a chain folds, and what is said of one that never does."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from rankwise.core.errors import SettingsError


@dataclass(frozen=True)
class FoldBelow:
    """Fold a chain where its block captures less than a given share of the gradient.

    Steps are counted from the beginning of the block. It is looked after ``look_every`` of them,
    after twice as many, and so on, but not before ``least_steps``; after ``most_steps`` the block
    folds whatever it captures.

    Attributes:
        share: The bound of the captured share, above 0 and below 1.
        look_every: Optimizer steps between two looks; a look costs a backward pass over its
            batches.
        least_steps: Optimizer steps that a block has at least.
        most_steps: Optimizer steps that a block has at most; None: as many as it takes.

    Raises:
        SettingsError: A number is out of its range, or nothing would ever be looked at.
    """

    share: float
    look_every: int
    least_steps: int = 1
    most_steps: int | None = None

    def __post_init__(self) -> None:
        is_number = isinstance(self.share, (int, float)) and not isinstance(self.share, bool)
        if not (is_number and 0 < self.share < 1):
            raise SettingsError(
                f"the captured share to fold below must lie between 0 and 1, got {self.share!r}"
            )
        check_steps("look_every", self.look_every, is_needed=True)
        check_steps("least_steps", self.least_steps, is_needed=True)
        check_steps("most_steps", self.most_steps)
        if self.most_steps is not None and self.most_steps <= self.first_look:
            raise SettingsError(
                f"most_steps must be above {self.first_look}, the first step of a block at which "
                f"look_every={self.look_every} and least_steps={self.least_steps} look at it, got "
                f"{self.most_steps}: what folds unlooked at has a fixed schedule"
            )

    @property
    def first_look(self) -> int:
        """The first step of a block after which it is looked at."""
        return self.look_every * -(-self.least_steps // self.look_every)

    def has_look(self, steps: int) -> bool:
        """Say whether a block of so many steps is looked at."""
        return steps >= self.first_look and steps % self.look_every == 0

    def is_full(self, steps: int) -> bool:
        """Say whether a block of so many steps folds, whatever it captures."""
        return self.most_steps is not None and steps >= self.most_steps


def check_steps(name: str, value: int | None, *, least: int = 1, is_needed: bool = False) -> None:
    """Refuse what is no number of steps, epochs or ranks, and None where one ``is_needed``.

    Raises:
        SettingsError: It is none, or less than ``least``.
    """
    if (is_needed or value is not None) and (type(value) is not int or value < least):
        raise SettingsError(f"{name} must be an integer of at least {least}, got {value!r}")


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
    below: FoldBelow | None = None,
    has_frozen_sketch: bool,
    one_block: str,
) -> str:
    """Say what a chain trains that never folds, and what to do.

    Args:
        steps: Of the whole run.
        every: As of :func:`fold_steps`.
        fractions: Likewise.
        below: What folds it by what it captures.
        has_frozen_sketch: Whether one factor of a block does not train.
        one_block: What asks for a chain of one block.
    """
    block = f"a block is {every} steps long"
    if below is not None:
        block = f"a block is first looked at after {below.first_look} steps"
    elif every is None:
        block = f"no step of it is at {list(fractions)} of the run"
    method = "AsymmLoRA, not RAC-LoRA" if has_frozen_sketch else "one adapter, and no chain"
    setting = "every"
    if below is not None:
        setting = "least_steps" if below.least_steps > below.look_every else "look_every"
    return (
        f"this chain will never fold: {block} and the training has {steps}, so that it trains "
        f"{method}. Fold more often ({setting} at most {max(1, steps // 2)}), train longer, or "
        f"say {one_block}"
    )
