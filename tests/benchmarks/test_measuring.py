"""When a benchmark has measured enough, and what it may claim then."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks.scripts import load

measuring = load("measuring")
TARGET = measuring.Target(measuring.of("ours", to="theirs"), 1.1)


def turns(*ratios):
    return [{"ours": 2 * ratio, "theirs": 2.0} for ratio in ratios]


@pytest.mark.parametrize(
    ("n", "low", "high"),
    # Of the order statistics x₁ … xₙ, as in any table of intervals for a median at 95 %.
    [(1, 1, 1), (5, 1, 5), (6, 1, 6), (9, 2, 8), (11, 2, 10), (20, 6, 15), (50, 18, 33)],
)
def test_the_interval_of_a_median_is_that_of_order_statistics(n, low, high):
    ratio = measuring.Ratio.of(range(n, 0, -1))
    assert (ratio.low, ratio.middle, ratio.high) == (low, (n + 1) / 2, high)


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((1.0, 1.05, 1.1), "yes"),
        ((1.11, 1.2), "no"),
        ((0.99, 1.32), "undecided"),  # an interval that merely reaches the target
        ((1.05, 1.11), "undecided"),
    ],
)
def test_a_target_is_met_or_missed_by_the_whole_interval(ratios, verdict):
    assert TARGET.verdict(turns(*ratios)) == verdict


def repeated(ratios, **options):
    """Take turns that show these ratios one after the other."""
    left = iter(turns(*ratios))
    options = measuring.Options(**options)
    return measuring.repeat_until_decided(lambda: next(left), options, [TARGET])


def test_turns_go_on_until_the_target_is_decided():
    # The tenth turn is the last that the interval leaves out on this side.
    ratios = [1.0, 1.2] + [1.0] * 20
    taken = repeated(ratios, repetitions=5)
    assert len(taken) == 10
    assert TARGET.verdict(taken) == "yes"


def test_turns_end_at_a_bound_with_nothing_claimed():
    taken = repeated([1.0, 1.2] * 20, repetitions=3)
    assert len(taken) == 3 * measuring.MOST
    assert TARGET.verdict(taken) == "undecided"


def test_what_is_decided_at_once_takes_no_more_turns():
    assert len(repeated([1.0] * 9, repetitions=3)) == 3


def test_tiny_sizes_decide_nothing():
    assert len(repeated([1.0, 1.2], repetitions=1, is_tiny=True)) == 1


def test_steps_take_turns_after_a_warm_up():
    seen = []
    steps = {name: lambda name=name: seen.append(name) for name in ("a", "b")}
    taken = measuring.take_turns(steps, options=measuring.Options(2))
    assert seen == ["a", "b"] * 3
    assert [set(turn) for turn in taken] == [{"a", "b"}] * 2
    assert all(math.isfinite(each) for turn in taken for each in turn.values())


@pytest.mark.parametrize(("value", "verdict"), [(0.7, "yes"), (0.71, "no")])
def test_what_is_the_same_each_time_is_decided_at_once(value, verdict):
    assert measuring.verdict_of(value, 0.7) == verdict
