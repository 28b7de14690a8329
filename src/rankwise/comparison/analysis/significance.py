"""Whether methods differ from the baseline, over seeds: several tests that share one error.

Differences are paired by seed. Student's t decides; Holm (1979, Scandinavian Journal of Statistics
6, 65-70) shares the error of 5 % among the methods of a group: in 95 % of comparisons no method is
called different that is not. Each interval is at the confidence at which Holm decided of its
method, so it leaves out zero exactly where the difference is significant. Beside it stands the
permutation test over seeds, which assumes no distribution: it exchanges signs of differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from rankwise.comparison.analysis.power import detectable_effect, seeds_needed
from rankwise.comparison.analysis.statistics import Interval, mean_interval

ERROR = 0.05
"""The probability that any of the methods of a group is called different that is not."""

# Signs of more seeds than these are drawn at random instead of all being tried.
_EXACT_SEEDS = 13
_RESAMPLES = 9_999


@dataclass(frozen=True)
class Difference:
    """A method's difference from the baseline; None is what a single seed cannot tell.

    Attributes:
        interval: The mean, and its interval at the confidence 1 - ``error``.
        error: What Holm left for this method.
        p_value: Of Student's t, adjusted by Holm.
        permutation_p_value: Of the permutation test, adjusted by Holm.
        effect_size: The mean over the standard deviation, corrected for few seeds (Hedges 1981).
        detectable: The smallest true difference with a chance of 80 % to be significant here.
        seeds_needed: With how many seeds the difference that was seen would have this chance; None
            also where there is none, or more would be needed than anyone runs.
    """

    interval: Interval
    error: float = ERROR
    p_value: float | None = None
    permutation_p_value: float | None = None
    effect_size: float | None = None
    detectable: float | None = None
    seeds_needed: int | None = None


def differences(
    groups: Sequence[Sequence[float]],
    *,
    least_errors: Sequence[float] | None = None,
    looks: int = 1,
) -> list[Difference]:
    """Test the differences of each method of a group against zero.

    Args:
        groups: For each method its differences from the baseline, one a seed.
        least_errors: For each what the standard error of its mean cannot be below.
        looks: How often the comparison is to be looked at, with more seeds each time: the looks
            share the error (Bonferroni).

    Raises:
        ValueError: A method has no difference at all.
    """
    if any(len(values) < 2 for values in groups):
        return [Difference(mean_interval(values)) for values in groups]
    least, error = least_errors or [0.0] * len(groups), ERROR / looks
    p_values = student_p_values(groups, least_errors=least)
    adjusted = [min(1.0, looks * p) for p in holm(p_values)]
    permuted = [min(1.0, looks * p) for p in holm([*map(permutation_p_value, groups)])]
    errors = holm_errors(p_values, error=error)
    found = []
    for i, values in enumerate(groups):
        interval = mean_interval(values, confidence=1 - errors[i], least_error=least[i])
        spread = max(float(np.std(values, ddof=1)), least[i] * math.sqrt(len(values)))
        decided = Difference(interval, errors[i], adjusted[i], permuted[i])
        found.append(_with_power(decided, spread, seeds=len(values), error=error / len(groups)))
    return found


def _with_power(difference: Difference, spread: float, *, seeds: int, error: float) -> Difference:
    mean = difference.interval.mean
    if spread <= abs(mean) * 1e-9:  # rounding is no spread
        return difference
    return replace(
        difference,
        effect_size=mean / spread * (1 - 3 / (4 * seeds - 5)),
        detectable=spread * detectable_effect(seeds, error=error),
        seeds_needed=seeds_needed(abs(mean) / spread, error=error),
    )


def student_p_values(
    groups: ArrayLike, *, least_errors: Sequence[float] | None = None
) -> list[float]:
    """Return the two-sided p of Student's t for a mean of zero, of each row of numbers."""
    values = np.asarray(groups, dtype=float)
    means, errors = np.abs(values.mean(axis=-1)), stats.sem(values, axis=-1)
    if least_errors is not None:
        errors = np.maximum(errors, least_errors)
    # Without any spread there is no doubt.
    certain = np.where(means == 0, 0.0, np.inf)
    quotients = np.divide(means, errors, where=errors > 0, out=certain)
    return (2 * stats.t.sf(quotients, values.shape[-1] - 1)).tolist()


def permutation_p_value(values: Sequence[float]) -> float:
    """Return the two-sided p of a mean of zero when every sign is as likely as its opposite.

    With n seeds it is at least 2 / 2^n: below six seeds it cannot reach 5 %.
    """
    resamples = 2 ** len(values) if len(values) <= _EXACT_SEEDS else _RESAMPLES
    found = stats.permutation_test(
        (np.asarray(values),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values: each is at most α exactly if Holm's procedure at α calls it significant.

    >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(_ascending(p_values)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def holm_errors(p_values: Sequence[float], *, error: float = ERROR) -> list[float]:
    """Return the error at which Holm's procedure decides of each; it stops at the first failure.

    >>> [round(each, 4) for each in holm_errors([0.01, 0.04, 0.03])]
    [0.0167, 0.025, 0.025]
    """
    errors, level = [0.0] * len(p_values), error
    for rank, i in enumerate(_ascending(p_values)):
        level = errors[i] = error / (len(p_values) - rank)
        if p_values[i] > level:
            break
    return [each or level for each in errors]


def _ascending(values: Sequence[float]) -> list[int]:
    return sorted(range(len(values)), key=values.__getitem__)
