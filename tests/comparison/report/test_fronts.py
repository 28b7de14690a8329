"""Test score over what it costs: points with their intervals, and what nothing beats."""

from __future__ import annotations

import itertools
import math

import pytest

from rankwise.comparison.fronts import COSTS, pareto_front
from rankwise.comparison.report import fronts
from rankwise.comparison.report.fronts import FORGETTING, MEMORY, PARAMETERS, TIME
from tests.comparison import made_records as made
from tests.comparison.report.charts_of import (
    COMPARISON,
    labels_in,
    labels_told,
    row_of,
    traces,
)
from tests.comparison.report_records import with_rows

FRONTS = [PARAMETERS, TIME, MEMORY, FORGETTING]
each_front = pytest.mark.parametrize("front", FRONTS, ids=lambda front: front.cost)


@each_front
def test_points_stand_at_their_costs_and_scores_with_their_interval(front):
    points = traces(front.draw(COMPARISON, None), "point")
    assert set(points) == labels_in("full", "300", "1200", "papers")
    lora, point = row_of("lora r=1"), points["lora r=1"]
    assert (*point.x, *point.y) == (COSTS[front.cost](lora), lora.score_mean)
    assert lora.score_mean + point.error_y.array[0] == pytest.approx(lora.score_high)
    assert lora.score_mean - point.error_y.arrayminus[0] == pytest.approx(lora.score_low)


def test_a_score_of_one_seed_has_no_whiskers():
    alone = made.comparison([made.row()])
    (point,) = traces(PARAMETERS.draw(alone, None), "point").values()
    assert (point.error_y.array, point.error_y.arrayminus) == ((None,), (None,))


@pytest.mark.parametrize("count", [0, None])
def test_a_row_without_trainable_parameters_has_no_place_on_the_logarithmic_axis(count):
    rows = [made.row(), made.row("cola", trainable_parameters=count)]
    points = traces(PARAMETERS.draw(made.comparison(rows), None), "point")
    assert list(points) == ["lora r=2"]


def test_what_was_gained_has_a_place_on_the_axis_of_forgetting():
    rows = [made.row(forgetting_mean=0.2), made.row("cola", forgetting_mean=-0.1)]
    figure = FORGETTING.draw(made.comparison(rows), None)
    assert [point.x for point in traces(figure, "point").values()] == [(0.2,), (-0.1,)]
    low, high = figure.layout.xaxis.range
    assert low < -0.1 < 0.2 < high


@each_front
def test_the_front_passes_through_what_nothing_beats(front):
    figure = front.draw(COMPARISON, None)
    line = traces(figure, "front")["Pareto front"]
    drawn = [(point.x[0], point.y[0]) for point in traces(figure, "point").values()]
    unbeaten = [
        (cost, score)
        for cost, score in drawn
        if not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in drawn)
    ]
    assert list(zip(line.x, line.y)) == sorted(unbeaten)
    assert line.line.shape == "hv"


@each_front
def test_of_close_neighbours_on_the_front_only_the_best_is_named(front):
    figure = front.draw(COMPARISON, None)
    named = sorted(label.x[0] for label in traces(figure, "label").values())
    assert named[-1] == traces(figure, "front")["Pareto front"].x[-1]
    if front.is_logarithmic:
        named, gap = [math.log10(cost) for cost in named], math.log10(1.3)
    else:
        low, high = figure.layout.xaxis.range
        gap = 0.06 * (high - low)
    assert all(low + gap < high for low, high in itertools.pairwise(named))


def test_a_budget_keeps_its_marker():
    points = [
        trace for trace in PARAMETERS.draw(COMPARISON, None).data if trace.meta["role"] == "point"
    ]
    symbols = {(row.budget, point.marker.symbol) for row, point in zip(COMPARISON.scored, points)}
    assert symbols == set(fronts.markers(COMPARISON).items())
    assert len({symbol for _, symbol in symbols}) == 4
    assert fronts.marker_key(COMPARISON).startswith("●\u00a0full, ■\u00a0300")


@each_front
def test_the_front_is_told_with_its_costs(front):
    caption = front.tell(COMPARISON, None)
    rows = pareto_front(COMPARISON.scored, COSTS[front.cost])
    assert labels_told(caption) == [row.label for row in rows]
    ends = {"trainable_parameters": "with 4,810.", "run_seconds": " s.", "peak_memory_bytes": "MB."}
    assert caption.endswith(ends.get(front.cost, "forgetting +0.073."))


def test_nothing_scored_makes_an_empty_chart():
    failed = with_rows(COMPARISON, [made.failed_row()])
    assert not traces(PARAMETERS.draw(failed, None), "point")
    assert PARAMETERS.tell(failed, None) == "There is nothing to draw."
