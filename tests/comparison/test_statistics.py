"""Intervals against values worked out by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from rankwise.comparison.statistics import mean_interval, paired_difference


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
    samples = generator.normal(5.0, 2.0, size=(4000, 4))
    intervals = [mean_interval(sample) for sample in samples.tolist()]
    covered = np.mean([i.low <= 5.0 <= i.high for i in intervals if i.low and i.high])
    assert covered == pytest.approx(0.95, abs=0.012)


def test_pairing_removes_what_the_seeds_share():
    baseline = [0.1, 0.5, 0.9]
    difference = paired_difference([0.2, 0.6, 1.0], baseline)
    assert difference.mean == pytest.approx(0.1)
    assert difference.high - difference.low == pytest.approx(0.0, abs=1e-12)


def test_more_comparisons_widen_each_interval():
    values, baseline = [0.2, 0.7, 0.9], [0.1, 0.5, 0.8]
    one, ten = (paired_difference(values, baseline, comparisons=n) for n in (1, 10))
    assert ten.low < one.low
    assert ten.high > one.high


def test_pairs_must_match():
    with pytest.raises(ValueError, match=r"longer|shorter"):
        paired_difference([0.1, 0.2], [0.1])
