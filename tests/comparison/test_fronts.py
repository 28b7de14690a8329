"""What no other method beats at as low a cost, and which costs tell methods apart."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.comparison.fronts import COSTS, pareto_front, pareto_fronts, tells_apart
from tests.comparison import made_records as made

PARAMETERS = COSTS["trainable_parameters"]


def test_the_front_leaves_out_what_is_beaten_and_what_failed():
    rows = [
        made.row("a", trainable_parameters=100, score_mean=0.5),
        made.row("b", trainable_parameters=100, score_mean=0.4),
        made.row("c", trainable_parameters=200, score_mean=0.5),
        made.row("d", trainable_parameters=300, score_mean=0.8),
        made.failed_row("e"),
    ]
    assert [row.name for row in pareto_front(rows, PARAMETERS)] == ["a", "d"]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9).map(lambda n: n / 10)), min_size=1))
def test_the_front_rises_and_covers_every_row(pairs):
    rows = [made.row(trainable_parameters=count, score_mean=score) for count, score in pairs]
    front = pareto_front(rows, PARAMETERS)
    costs = sorted({(row.trainable_parameters, row.score_mean) for row in front})
    assert all(c1 < c2 and s1 < s2 for (c1, s1), (c2, s2) in pairwise(costs))
    for count, score in pairs:
        assert any(cost <= count and reached >= score for cost, reached in costs)


def test_a_run_costs_its_initialization_too_and_forgetting_may_be_below_zero():
    rows = [
        made.row("late", init_seconds=9.0, train_seconds=1.0, forgetting_mean=-0.1),
        made.row("soon", init_seconds=0.0, train_seconds=4.0, forgetting_mean=0.2),
        made.row("kept", forgetting_mean=None),
    ]
    fronts = pareto_fronts(rows)
    assert [each.name for each in fronts["run_seconds"]] == ["soon"]
    assert [each.name for each in fronts["forgetting_mean"]] == ["late"]


@pytest.mark.parametrize(("other", "is_told"), [(1000, False), (1040, False), (1100, True)])
def test_a_cost_that_is_nearly_the_same_for_all_tells_nothing(other, is_told):
    rows = [made.row(peak_memory_bytes=size) for size in (1000, other)]
    assert tells_apart(rows, COSTS["peak_memory_bytes"]) is is_told
    assert ("peak_memory_bytes" in pareto_fronts(rows)) is is_told


def test_what_failed_costs_nothing():
    assert pareto_fronts([made.failed_row()]) == {}
