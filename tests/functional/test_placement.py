"""Ranks under a budget: never above it, and against what trying everything finds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.functional.placement import greedy_ranks


def total(values, ranks):
    return sum(sum(each[:r]) for each, r in zip(values, ranks, strict=True))


def best(gains, costs, budget):
    """What the best of all ranks gains, found by trying them."""
    choices = itertools.product(*(range(len(each) + 1) for each in gains))
    return max(total(gains, each) for each in choices if total(costs, each) <= budget)


descending = st.lists(st.integers(0, 20), min_size=1, max_size=3).map(
    lambda gains: sorted(gains, reverse=True)
)
layers = st.lists(st.tuples(descending, st.integers(1, 9)), min_size=1, max_size=4)


@given(layers, st.integers(0, 60))
def test_the_budget_holds_and_at_most_one_gain_is_missed(layers, budget):
    gains = [gain for gain, _ in layers]
    costs = [[cost] * len(gain) for gain, cost in layers]
    ranks = greedy_ranks(gains, costs, budget=budget)
    assert total(costs, ranks) <= budget
    assert total(gains, ranks) >= best(gains, costs, budget) - max(map(max, gains))


@given(st.lists(descending, min_size=1, max_size=4), st.integers(1, 5), st.integers(0, 40))
def test_where_all_ranks_cost_the_same_nothing_gains_more(gains, cost, budget):
    costs = [[cost] * len(gain) for gain in gains]
    ranks = greedy_ranks(gains, costs, budget=budget)
    assert total(gains, ranks) == best(gains, costs, budget)


@given(layers, st.integers(0, 12))
def test_what_is_spent_until_one_does_not_fit_is_spent_best(layers, taken):
    gains = [gain for gain, _ in layers]
    costs = [[cost] * len(gain) for gain, cost in layers]
    ranked = sorted(
        ((gain / cost, cost) for gain_, cost in layers for gain in gain_ if gain), reverse=True
    )
    budget = sum(cost for _, cost in ranked[:taken])
    if taken < len(ranked) and taken and ranked[taken][0] == ranked[taken - 1][0]:
        return  # of equals another may be taken, of another cost
    ranks = greedy_ranks(gains, costs, budget=budget)
    assert total(gains, ranks) == best(gains, costs, budget)


@given(st.lists(descending, min_size=1, max_size=3), st.integers(0, 30))
def test_the_growing_price_of_a_core_is_paid(gains, budget):
    """The k-th rank of a core of k² numbers costs 2k - 1."""
    costs = [[2 * k - 1 for k in range(1, len(gain) + 1)] for gain in gains]
    ranks = greedy_ranks(gains, costs, budget=budget)
    assert sum(r * r for r in ranks) <= budget
    assert total(gains, ranks) >= best(gains, costs, budget) - max(map(max, gains))


def test_a_large_layer_pays_what_it_costs():
    assert greedy_ranks([[10.0, 9.0], [4.0, 3.0]], [[40, 40], [10, 10]], budget=60) == [1, 2]
    assert greedy_ranks([[10.0, 9.0], [4.0, 3.0]], [[40, 40], [10, 10]], budget=39) == [0, 2]


def test_what_gains_nothing_gets_nothing():
    assert greedy_ranks([[0.0], [2.0, 0.0]], [[1], [1, 1]], budget=9) == [0, 1]


@pytest.mark.parametrize(
    ("gains", "costs", "message"),
    [
        ([[1.0]], [[1, 1]], r"each gain has a cost, got \[1\] gains and \[2\] costs"),
        ([[-1.0]], [[1]], "no gain may be negative"),
        ([[1.0]], [[0]], "at least one parameter"),
    ],
)
def test_what_makes_no_sense_is_refused(gains, costs, message):
    with pytest.raises(ValueError, match=message):
        greedy_ranks(gains, costs, budget=5)
