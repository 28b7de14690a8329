"""Test score over trainable parameters: points with their intervals, and what nothing beats."""

from __future__ import annotations

import itertools
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.comparison.report import parameters
from rankwise.comparison.report.parameters import pareto_front
from tests.comparison import made_records as made
from tests.comparison.report.charts_of import (
    COMPARISON,
    labels_in,
    labels_told,
    row_of,
    traces,
)
from tests.comparison.report_records import with_rows


@pytest.fixture(scope="module")
def figure():
    return parameters.draw(COMPARISON, None)


def test_points_stand_at_their_parameters_and_scores_with_their_interval(figure):
    points = traces(figure, "point")
    assert set(points) == labels_in("full", "300", "1200", "papers")
    lora, point = row_of("lora r=1"), points["lora r=1"]
    assert (*point.x, *point.y) == (lora.trainable_parameters, lora.score_mean)
    assert lora.score_mean + point.error_y.array[0] == pytest.approx(lora.score_high)
    assert lora.score_mean - point.error_y.arrayminus[0] == pytest.approx(lora.score_low)


def test_a_score_of_one_seed_has_no_whiskers():
    alone = made.comparison([made.row()])
    (point,) = traces(parameters.draw(alone, None), "point").values()
    assert (point.error_y.array, point.error_y.arrayminus) == ((None,), (None,))


@pytest.mark.parametrize("count", [0, None])
def test_a_row_without_trainable_parameters_has_no_place_on_the_logarithmic_axis(count):
    rows = [made.row(), made.row("cola", trainable_parameters=count)]
    points = traces(parameters.draw(made.comparison(rows), None), "point")
    assert list(points) == ["lora r=2"]


def test_the_front_passes_through_what_nothing_beats(figure):
    front = traces(figure, "front")["Pareto front"]
    drawn = [(point.x[0], point.y[0]) for point in traces(figure, "point").values()]
    unbeaten = [
        (count, score)
        for count, score in drawn
        if not any(c <= count and s >= score and (c, s) != (count, score) for c, s in drawn)
    ]
    assert list(zip(front.x, front.y)) == sorted(unbeaten)
    assert front.line.shape == "hv"


def test_the_front_leaves_out_what_is_beaten_and_what_failed():
    rows = [
        made.row("a", trainable_parameters=100, score_mean=0.5),
        made.row("b", trainable_parameters=100, score_mean=0.4),
        made.row("c", trainable_parameters=200, score_mean=0.5),
        made.row("d", trainable_parameters=300, score_mean=0.8),
        made.failed_row("e"),
    ]
    assert [row.name for row in pareto_front(rows)] == ["a", "d"]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9).map(lambda n: n / 10)), min_size=1))
def test_the_front_rises_and_covers_every_row(pairs):
    rows = [made.row(trainable_parameters=count, score_mean=score) for count, score in pairs]
    front = pareto_front(rows)
    costs = sorted({(row.trainable_parameters, row.score_mean) for row in front})
    assert all(c1 < c2 and s1 < s2 for (c1, s1), (c2, s2) in pairwise(costs))
    for count, score in pairs:
        assert any(cost <= count and reached >= score for cost, reached in costs)


def test_of_close_neighbours_on_the_front_only_the_best_is_named(figure):
    counts = sorted(label.x[0] for label in traces(figure, "label").values())
    assert all(1.3 * low < high for low, high in itertools.pairwise(counts))
    assert counts[-1] == traces(figure, "front")["Pareto front"].x[-1]


def test_a_budget_keeps_its_marker(figure):
    points = [trace for trace in figure.data if trace.meta["role"] == "point"]
    symbols = {(row.budget, point.marker.symbol) for row, point in zip(COMPARISON.scored, points)}
    assert symbols == set(parameters.markers(COMPARISON).items())
    assert len({symbol for _, symbol in symbols}) == 4
    assert parameters.marker_key(COMPARISON).startswith("●\u00a0full, ■\u00a0300")


def test_the_front_is_told_with_its_parameters():
    caption = parameters.tell(COMPARISON, None)
    front = pareto_front(COMPARISON.scored)
    assert labels_told(caption) == [row.label for row in front]
    assert caption.endswith(f"full: {front[-1].score_mean:.3f} with 4,810.")


def test_nothing_scored_makes_an_empty_chart():
    failed = with_rows(COMPARISON, [made.failed_row()])
    assert not traces(parameters.draw(failed, None), "point")
    assert parameters.tell(failed, None) == "There is nothing to draw."
