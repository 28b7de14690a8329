"""Power against Cohen's and SciPy's numbers."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from rankwise.comparison.analysis.power import CHANCE, detectable_effect, power, seeds_needed


@pytest.mark.parametrize(
    ("seeds", "effect", "error"), [(10, 1.0, 0.05), (5, 1.5, 0.05), (20, 0.5, 0.01), (3, 2.0, 0.05)]
)
def test_power_is_that_of_the_noncentral_t_where_scipy_has_it(seeds, effect, error):
    quantile, shift = stats.t.isf(error / 2, seeds - 1), effect * math.sqrt(seeds)
    expected = stats.nct.sf(quantile, seeds - 1, shift) + stats.nct.cdf(-quantile, seeds - 1, shift)
    assert power(effect, seeds, error=error) == pytest.approx(expected, abs=2e-5)


def test_without_an_effect_the_power_is_the_error():
    assert power(0.0, 7, error=0.01) == pytest.approx(0.01, abs=5e-5)


@pytest.mark.parametrize("seeds", [2, 3, 10, 100])
@pytest.mark.parametrize("error", [0.05, 0.05 / 24])
def test_what_is_detectable_is_found_with_the_chance_that_is_said(seeds, error):
    effect = detectable_effect(seeds, error=error)
    assert power(effect, seeds, error=error) == pytest.approx(CHANCE, abs=1e-6)


def test_the_seeds_that_an_effect_needs_are_the_fewest_that_find_it():
    assert seeds_needed(1.0) == 10
    assert power(1.0, 10) >= CHANCE > power(1.0, 9)
    assert seeds_needed(0.01) is None
    assert seeds_needed(1.0, error=0.05 / 9) > 10
