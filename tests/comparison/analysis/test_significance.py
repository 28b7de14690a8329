"""Which differences are significant: p-values by hand, Holm, and intervals that agree with them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.comparison.analysis.significance import (
    differences,
    holm,
    holm_errors,
    permutation_p_value,
    student_p_values,
)

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_students_p_by_hand():
    # Mean 2, standard error 1/√3: t = 3.4641 with 2 degrees of freedom.
    assert student_p_values([[1.0, 2.0, 3.0]]) == pytest.approx([0.0741799], rel=1e-5)


def test_values_that_are_all_alike_are_certain_unless_rows_say_otherwise():
    assert student_p_values([[0.1, 0.1], [0.0, 0.0]]) == [0.0, 1.0]
    (p,) = student_p_values([[0.1, 0.1]], least_errors=[0.1])
    assert p == pytest.approx(0.5)  # t = 1 with one degree of freedom


def test_the_permutation_test_tries_every_sign():
    values = [0.3, 0.1, 0.2, 0.25, -0.05, 0.4]
    means = [
        np.mean(np.multiply(signs, values))
        for signs in itertools.product((-1, 1), repeat=len(values))
    ]
    as_far = np.mean(np.abs(means) >= abs(np.mean(values)) - 1e-12)
    assert permutation_p_value(values) == pytest.approx(as_far)
    assert permutation_p_value([0.1, 0.2, 0.3]) == 0.25


def test_many_seeds_are_permuted_at_random_and_the_same_each_time():
    values = np.random.default_rng(0).normal(0.3, 1.0, size=30).tolist()
    assert permutation_p_value(values) == permutation_p_value(values)
    assert permutation_p_value(values) == pytest.approx(student_p_values([values])[0], abs=0.03)


def test_holm_by_hand():
    # 0.01 · 3, then 0.03 · 2, then 0.04 · 1, which may not be below what came before it.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_errors([0.01, 0.04, 0.03]) == pytest.approx([0.05 / 3, 0.025, 0.025])
    assert holm_errors([0.01, 0.02, 0.03]) == pytest.approx([0.05 / 3, 0.025, 0.05])


@given(P_VALUES)
def test_holm_decides_the_same_by_adjusted_values_and_by_errors(p_values):
    adjusted, errors = holm(p_values), holm_errors(p_values)
    for i, p in enumerate(p_values):
        # Where the two are equal up to rounding there is nothing to decide.
        if abs(adjusted[i] - 0.05) > 1e-9:
            assert (adjusted[i] <= 0.05) == (p <= errors[i])


@given(st.lists(st.lists(st.floats(-1, 1), min_size=4, max_size=4), min_size=1, max_size=5))
def test_an_interval_leaves_out_zero_exactly_where_the_difference_is_significant(groups):
    for difference in differences(groups):
        interval = difference.interval
        if abs(difference.p_value - 0.05) > 1e-6 and interval.low != interval.high:
            is_apart = interval.low > 0 or interval.high < 0
            assert is_apart == (difference.p_value <= 0.05)


def test_one_seed_shows_a_difference_and_nothing_of_its_certainty():
    (difference,) = differences([[0.1]])
    assert difference.interval.mean == 0.1
    assert difference.interval.low is difference.p_value is difference.detectable is None


def test_more_methods_need_more_evidence():
    values = [0.11, 0.09, 0.14, 0.06]
    (alone,) = differences([values])
    first, *_ = differences([values, [0.1, -0.1, 0.1, -0.1], [0.1, -0.1, -0.1, 0.1]])
    assert first.p_value == pytest.approx(3 * alone.p_value)
    assert first.interval.low < alone.interval.low
    assert first.detectable > alone.detectable


def test_planned_looks_share_the_error():
    values = [0.11, 0.09, 0.14, 0.06]
    (once,), (thrice,) = differences([values]), differences([values], looks=3)
    assert thrice.p_value == pytest.approx(3 * once.p_value)
    assert thrice.error == pytest.approx(once.error / 3)
    assert thrice.interval.low < once.interval.low


def test_the_effect_size_by_hand():
    # Mean 2, deviation 1, and Hedges' 1 - 3/7 for three seeds.
    (difference,) = differences([[1.0, 2.0, 3.0]])
    assert difference.effect_size == pytest.approx(2 * (1 - 3 / 7))
