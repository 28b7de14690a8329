"""What a comparison can show at all: its power, before it is run or where it showed nothing.

The power of the paired two-sided t-test (Cohen 1988, Statistical Power Analysis for the Behavioral
Sciences): with a true difference of d standard deviations and n seeds, t is distributed as
(Z + d √n) / √(χ²/ν), with a normal Z and ν = n - 1. It is averaged over quantiles of χ², as SciPy's
noncentral t has no digits left where few seeds meet a small error.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

CHANCE = 0.8
"""With which a difference is to be found, by convention."""
MOST_SEEDS = 200
"""More than these nobody runs."""


def power(effect: float, seeds: int, *, error: float = 0.05) -> float:
    """Return the chance that a true difference of ``effect`` standard deviations is significant.

    >>> round(power(2.0, 10), 3)
    1.0
    >>> round(power(0.0, 10), 3)
    0.05
    """
    degrees, shift = seeds - 1, effect * math.sqrt(seeds)
    bounds = stats.t.isf(error / 2, degrees) * _deviations(degrees)
    return float(np.mean(stats.norm.sf(bounds - shift) + stats.norm.sf(bounds + shift)))


@functools.cache
def _deviations(degrees: int) -> NDArray[np.float64]:
    """Return quantiles of the sample deviation where the true one is 1."""
    return np.sqrt(stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, degrees) / degrees)


@functools.cache
def detectable_effect(seeds: int, *, error: float = 0.05) -> float:
    """Return the true difference, in standard deviations, that has the chance ``CHANCE``.

    >>> round(detectable_effect(10), 2)
    1.0
    """

    def missing(effect: float) -> float:
        return power(effect, seeds, error=error) - CHANCE

    # So many standard errors are found nearly always.
    highest = (3 * float(stats.t.isf(error / 2, seeds - 1)) + 3) / math.sqrt(seeds)
    root: Any = optimize.brentq(missing, 0.0, highest)
    return float(root)


def seeds_needed(effect: float, *, error: float = 0.05) -> int | None:
    """Return with how many seeds ``effect`` standard deviations have the chance ``CHANCE``.

    None where it takes more than ``MOST_SEEDS``.

    >>> seeds_needed(1.0)
    10
    """
    if power(effect, MOST_SEEDS, error=error) < CHANCE:
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        is_enough = power(effect, middle, error=error) >= CHANCE
        low, high = (low, middle) if is_enough else (middle, high)
    return high
