"""The series are what the records say: means over all seeds, gaps where one is missing."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.comparison.report import series
from tests.comparison.report_records import LEARNING_RATES, SEEDS, made_up_comparison


def row(name="lora", *, r=1, side=None, budget="300", **measured):
    """A row of the summary, finished unless told otherwise."""
    known = {"status": "ok", "score_mean": 0.5, "trainable_parameters": 100, "learning_rate": 0.1}
    return {"name": name, "r": r, "side": side, "budget": budget} | known | measured


def run_of(method, seed=0, **measured):
    """A finished run of ``method`` at its learning rate."""
    key = {part: method[part] for part in ("name", "r", "side", "budget")}
    known = {"status": "done", "learning_rate": method["learning_rate"], "score_validation": 0.5}
    return {"method": key, "seed": seed} | known | measured


def curve(*scores):
    """A learning curve with ``scores`` at steps 0, 10, 20, ..."""
    return [{"step": 10 * i, "validation_score": score} for i, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (row("full", r=None), "full"),
        (row("lora", r=4), "lora r=4"),
        (row("rac-lora", r=2, side="left"), "rac-lora r=2, left"),
    ],
)
def test_a_label_names_what_a_row_has(method, text):
    assert series.label(method) == text


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "0.5", True])
def test_only_finite_numbers_are_numbers(value):
    assert not series.is_number(value)
    assert not series.is_scored(row(score_mean=value))


def test_a_failed_row_is_not_scored():
    assert not series.is_scored(row(status="failed: the loss is nan", score_mean=None))


def test_a_row_that_is_alone_in_its_budget_serves_as_reference_in_every_view():
    full, small, large = row("full", budget="full"), row(budget="300"), row(budget="1200")
    rows = [full, small, row("cola", budget="300"), large, row("cola", budget="1200")]
    assert series.views(rows) == ["300", "1200"]
    assert series.rows_in_view(rows, "300") == rows[:3]
    assert series.rows_in_view(rows, "1200") == [full, *rows[3:]]
    assert series.rows_in_view(rows, None) == [full]


def test_the_best_of_a_budget_needs_a_rival():
    rows = [
        row("full", budget="full", score_mean=0.9),
        row("lora", score_mean=0.5),
        row("cola", score_mean=0.7),
        row("delora", status="failed: no", score_mean=None),
    ]
    assert series.best_of_budget(rows, "300") is rows[2]
    assert series.best_of_budget(rows, "full") is None
    assert series.best_of_budget(rows[:2] + rows[3:], "300") is None


def test_the_front_leaves_out_what_is_beaten_and_what_failed():
    rows = [
        row("a", trainable_parameters=100, score_mean=0.5),
        row("b", trainable_parameters=100, score_mean=0.4),
        row("c", trainable_parameters=200, score_mean=0.5),
        row("d", trainable_parameters=300, score_mean=0.8),
        row("e", trainable_parameters=50, score_mean=None, status="failed: no"),
    ]
    assert [method["name"] for method in series.pareto_front(rows)] == ["a", "d"]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9).map(lambda n: n / 10)), min_size=1))
def test_the_front_rises_and_covers_every_row(pairs):
    rows = [row(trainable_parameters=count, score_mean=score) for count, score in pairs]
    front = series.pareto_front(rows)
    costs = sorted({(f["trainable_parameters"], f["score_mean"]) for f in front})
    assert all(c1 < c2 and s1 < s2 for (c1, s1), (c2, s2) in pairwise(costs))
    for count, score in pairs:
        assert any(cost <= count and reached >= score for cost, reached in costs)


def test_a_learning_curve_averages_the_chosen_runs_and_keeps_their_range():
    lora = row()
    runs = [
        run_of(lora, 0, curve=curve(0.1, 0.5)),
        run_of(lora, 1, curve=curve(0.3, 0.9)),
        run_of(lora, 0, curve=curve(1.0, 1.0), learning_rate=0.01),
        run_of(row(r=4), 0, curve=curve(1.0, 1.0)),
    ]
    drawn = series.learning_curve(lora, runs)
    assert drawn.x == (0, 10)
    assert drawn.mean == pytest.approx((0.2, 0.7))
    assert (drawn.low, drawn.high) == ((0.1, 0.5), (0.3, 0.9))


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_step_that_one_seed_lacks_is_left_out(missing):
    lora = row()
    runs = [run_of(lora, 0, curve=curve(missing, 0.5)), run_of(lora, 1, curve=curve(0.3, 0.9, 1.0))]
    assert series.learning_curve(lora, runs).x == (10,)


def test_a_row_without_runs_has_an_empty_curve():
    assert series.learning_curve(row(), []).points == []


def test_a_sweep_has_a_gap_where_a_seed_failed():
    lora = row()
    failed = run_of(lora, 1, learning_rate=0.3, status="failed")
    del failed["score_validation"]
    runs = [
        run_of(lora, 0, learning_rate=0.3, score_validation=0.9),
        failed,
        run_of(lora, 0, score_validation=0.6),
        run_of(lora, 1, score_validation=0.8),
    ]
    sweep = series.learning_rate_sweep(lora, runs)
    assert sweep.x == (0.1, 0.3)
    assert sweep.mean[0] == pytest.approx(0.7)
    assert (sweep.mean[1], sweep.low[1], sweep.high[1]) == (None, None, None)
    assert sweep.points == [(0.1, pytest.approx(0.7))]


def test_a_sweep_finds_every_run_of_its_row_and_no_other():
    summary, runs = made_up_comparison()
    lora = summary["methods"][1]
    sweep = series.learning_rate_sweep(lora, runs)
    assert list(sweep.x) == LEARNING_RATES
    assert len(series.runs_of(lora, runs)) == len(LEARNING_RATES) * len(SEEDS)
    chosen = sweep.mean[LEARNING_RATES.index(lora["learning_rate"])]
    assert chosen == pytest.approx(lora["score_validation"])
    assert chosen == max(mean for mean in sweep.mean if mean is not None)
    scores = [run["score_validation"] for run in series.chosen_runs(lora, runs)]
    assert fmean(scores) == pytest.approx(chosen)


def test_folds_outside_the_curve_are_left_out():
    cola = row("cola")
    runs = [run_of(cola, seed, curve=curve(0.1, 0.2, 0.3), folds=[15, 20, 25]) for seed in SEEDS]
    drawn = series.learning_curve(cola, runs)
    assert series.folds_within(cola, runs, drawn) == [15, 20]


def test_the_metric_is_that_of_the_first_run_that_names_one():
    assert series.metric([{"status": "failed"}, {"metric": "accuracy"}]) == "accuracy"
    assert series.metric([]) == "score"
