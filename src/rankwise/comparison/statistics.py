"""Intervals over seeds: Student's t on few values, nothing assumed about more.

Both tables and verdicts come from here. With a single value no interval exists, and None says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean and its two-sided interval; ``low`` and ``high`` are None for a single value."""

    mean: float
    low: float | None
    high: float | None


def mean_interval(
    values: Sequence[float],
    *,
    confidence: float = 0.95,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Return mean ± t · s/√n, with s the sample deviation and t Student's quantile for n-1.

    ``within`` is the range that the mean can have, 0 to 1 for an accuracy: the interval is cut to
    it, which leaves its coverage as it is.

    Raises:
        ValueError: ``values`` is empty.
    """
    if not values:
        raise ValueError("values must hold at least one number, got none")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Interval(mean, None, None)
    half = float(stats.sem(values) * stats.t.ppf((1 + confidence) / 2, df=len(values) - 1))
    return Interval(mean, max(mean - half, within[0]), min(mean + half, within[1]))


def paired_difference(
    values: Sequence[float], baseline: Sequence[float], *, comparisons: int = 1
) -> Interval:
    """Return the interval of the mean of values[i] - baseline[i], pairs being the same seed.

    The error of 5 % is shared by ``comparisons`` intervals (Bonferroni), so that all of them hold
    at once in 95 % of cases.
    """
    differences = [value - base for value, base in zip(values, baseline, strict=True)]
    return mean_interval(differences, confidence=1 - 0.05 / comparisons)
