"""A point leaves the race when it can no longer win, and not before."""

from __future__ import annotations

import numpy as np
import pytest

from rankwise.comparison.analysis.race import CHANCE, losers
from rankwise.training.settings.grid import GridPoint


def scores(**by_rate):
    return {
        GridPoint(float(rate.removeprefix("at_"))): dict(enumerate(values))
        for rate, values in by_rate.items()
    }


def test_the_chance_is_that_of_students_t():
    # Behind by 0.3 and 0.1 on average, deviations of √2/10 and 0: s = 0.1; t = d √(3·2/1) / s.
    known = scores(at_1=[0.9, 0.9], at_2=[0.5, 0.7], at_3=[0.8, 0.8])
    (dropped,) = losers(known, seeds=3)
    assert dropped.point == GridPoint(2.0)
    assert (dropped.seeds, dropped.behind) == (2, pytest.approx(0.3))
    # Two degrees of freedom: P(t > 7.348) = 1/2 - 7.348 / (2 √(2 + 7.348²)).
    t = 0.3 * np.sqrt(6) / 0.1
    assert dropped.chance == pytest.approx(0.5 - t / (2 * np.sqrt(2 + t**2)))


@pytest.mark.parametrize(
    "known",
    [
        scores(at_1=[0.9], at_2=[0.1]),
        scores(at_1=[0.9, 0.9]),
        scores(at_1=[0.9, 0.9], at_2=[0.1, 0.1]),
        scores(at_1=[0.9, 0.1, 0.9], at_2=[0.1, 0.9, 0.1]),
    ],
    ids=["one seed", "one point", "no spread", "the last seed was run"],
)
def test_nothing_is_dropped_where_nothing_is_known(known):
    assert losers(known, seeds=3) == []


def test_what_was_run_with_all_seeds_stays():
    known = scores(at_1=[0.9, 0.91], at_2=[0.1, 0.12, 0.1], at_3=[0.1, 0.13])
    assert [each.point.learning_rate for each in losers(known, seeds=3)] == [3.0]


def test_the_point_that_would_have_won_is_seldom_dropped():
    generator = np.random.default_rng(0)
    races, lost = 600, 0
    for _ in range(races):
        table = generator.normal(size=(5, 3)) + generator.normal(size=3) + [[0], [0], [0], [1], [2]]
        known = {GridPoint(i + 1.0): dict(enumerate(row[:2])) for i, row in enumerate(table)}
        winner = GridPoint(float(table.mean(axis=1).argmax()) + 1)
        lost += winner in [each.point for each in losers(known, seeds=3)]
    assert lost / races <= CHANCE
