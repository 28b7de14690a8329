"""Intervals against values worked out by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from rankwise.comparison.analysis.statistics import Crossed, mean_interval


def test_the_interval_of_three_values_by_hand():
    # s = 1, standard error 1/√3, t(0.975, 2) = 4.302653: half width 2.484.
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.low == pytest.approx(2 - 2.4841, abs=1e-4)
    assert interval.high == pytest.approx(2 + 2.4841, abs=1e-4)


def test_an_interval_is_cut_to_the_range_of_its_mean():
    interval = mean_interval([0.7, 0.9, 1.0], within=(0.0, 1.0))
    assert interval.high == 1.0
    assert interval.low == mean_interval([0.7, 0.9, 1.0]).low


def test_one_value_has_no_interval():
    interval = mean_interval([0.9])
    assert (interval.mean, interval.low, interval.high) == (0.9, None, None)


def test_no_value_is_refused():
    with pytest.raises(ValueError, match="at least one number"):
        mean_interval([])


def test_the_interval_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    samples = generator.normal(5.0, 2.0, size=(1000, 4))
    intervals = [mean_interval(sample) for sample in samples.tolist()]
    covered = np.mean([i.low <= 5.0 <= i.high for i in intervals if i.low and i.high])
    # Three standard errors of the simulation.
    assert covered == pytest.approx(0.95, abs=0.021)


def test_a_standard_error_is_not_below_the_least_that_it_can_be():
    alike = mean_interval([0.5, 0.5, 0.5], least_error=0.1)
    assert alike.high - 0.5 == pytest.approx(4.302653 * 0.1)
    apart = [0.1, 0.5, 0.9]
    assert mean_interval(apart, least_error=0.01) == mean_interval(apart)


def test_values_that_are_all_alike_have_an_interval_of_no_length():
    interval = mean_interval([0.5, 0.5, 0.5])
    assert (interval.low, interval.high) == (0.5, 0.5)


def crossed(generator, *, seeds, rows, seed=0.0, row=0.0, rest=0.0):
    """Differences of mean zero, with the given deviations over seeds, rows, and the rest."""
    return (
        seed * generator.normal(size=(seeds, 1))
        + row * generator.normal(size=(1, rows))
        + rest * generator.normal(size=(seeds, rows))
    )


def test_the_crossed_interval_by_hand():
    # Differences [[0, 1], [1, 2]]: MS of seeds and of rows 1, of the rest 0; the mean's variance
    # (1 + 1 - 0) / 4, with one degree of freedom: t(0.975, 1) = 12.7062.
    interval = Crossed.of([[0, 1], [1, 2]], [[0, 0], [0, 0]]).interval()
    assert interval.mean == 1.0
    assert interval.high - interval.mean == pytest.approx(12.7062 * 0.5**0.5, rel=1e-5)
    assert interval.mean - interval.low == pytest.approx(interval.high - interval.mean)


@pytest.mark.parametrize(
    "deviations",
    [
        {"seed": 1.0, "row": 5.0, "rest": 1.0},
        {"seed": 0.3, "row": 1.0, "rest": 1.0},
        {"seed": 1.0, "row": 0.0, "rest": 1.0},
        {"seed": 0.0, "row": 1.0, "rest": 1.0},
    ],
)
@pytest.mark.parametrize("comparisons", [1, 9])
def test_the_crossed_interval_errs_no_more_often_than_it_says(deviations, comparisons):
    generator, draws = np.random.default_rng(1), 500
    missed = []
    for _ in range(draws):
        values = crossed(generator, seeds=3, rows=40, **deviations)
        table = Crossed.of(values, np.zeros_like(values))
        interval = table.interval(confidence=1 - 0.05 / comparisons)
        missed.append(not interval.low <= 0 <= interval.high)
    promised = 0.05 / comparisons
    # Three standard errors of the simulation above what is promised.
    assert np.mean(missed) < promised + 3 * (promised / draws) ** 0.5


def test_the_crossed_interval_is_never_narrower_than_that_over_seeds():
    generator = np.random.default_rng(3)
    for _ in range(200):
        values = crossed(generator, seeds=3, rows=20, seed=0.5, row=0.5, rest=1.0)
        both = Crossed.of(values, np.zeros_like(values)).interval()
        seeds = mean_interval(values.mean(axis=1).tolist())
        assert both.high - both.low >= seeds.high - seeds.low - 1e-12


def test_pretending_that_seeds_times_rows_are_independent_would_cover_far_less():
    generator = np.random.default_rng(2)
    covered = []
    for _ in range(300):
        values = crossed(generator, seeds=3, rows=40, row=1.0, rest=0.1)
        interval = mean_interval(values.ravel().tolist())
        covered.append(interval.low <= 0 <= interval.high)
    assert np.mean(covered) < 0.8


def test_the_least_error_of_a_mean_over_seeds_is_that_of_the_rest():
    generator = np.random.default_rng(4)
    values = crossed(generator, seeds=50, rows=400, row=2.0, rest=1.0)
    table = Crossed.of(values, np.zeros_like(values))
    # Without a deviation of its own a seed's mean has that of the rest over its rows.
    assert table.least_error == pytest.approx(1 / (50 * 400) ** 0.5, rel=0.05)
    over_seeds = values.mean(axis=1).std(ddof=1) / 50**0.5
    assert table.least_error == pytest.approx(over_seeds, rel=0.25)


def test_one_seed_says_nothing_of_others_and_equal_answers_differ_by_nothing():
    alone = Crossed.of([[1, 0, 1]], [[0, 0, 1]]).interval()
    assert (alone.low, alone.high) == (None, None)
    same = Crossed.of([[1, 0], [1, 1]], [[1, 0], [1, 1]]).interval()
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)


def test_crossed_values_must_be_a_table():
    with pytest.raises(ValueError, match="a row of numbers for each seed"):
        Crossed.of([], [])
