"""Which rows are seen together, and which runs belong to a row."""

from __future__ import annotations

from rankwise.comparison.report.comparison import best_of
from tests.comparison import made_records as made
from tests.comparison.report_records import LEARNING_RATES, SEEDS, made_up_comparison


def test_a_row_that_is_alone_in_its_budget_serves_as_reference_in_every_view():
    full, small, large = made.row("full", budget="full"), made.row(), made.row(budget="1200")
    rows = [full, small, made.row("cola"), large, made.row("cola", budget="1200")]
    comparison = made.comparison(rows)
    assert comparison.views == ["300", "1200"]
    assert comparison.rows_in("300") == rows[:3]
    assert comparison.rows_in("1200") == [full, *rows[3:]]
    assert comparison.rows_in(None) == [full]


def test_what_failed_is_not_scored():
    rows = [made.row(), made.failed_row("cola")]
    comparison = made.comparison(rows, [made.run(), made.failed_run("cola")])
    assert comparison.scored == rows[:1]
    assert comparison.scored_in("300") == rows[:1]
    assert [run.run for run in comparison.failed_runs] == ["cola r=2-300-0.01-0"]


def test_the_best_needs_a_rival():
    rows = [made.row(score_mean=0.5), made.row("cola", score_mean=0.7), made.failed_row("delora")]
    assert best_of(rows) is rows[1]
    assert best_of(rows[::2]) is None


def test_the_runs_of_a_row_are_those_of_its_identity():
    comparison = made_up_comparison()
    lora = comparison.rows[1]
    runs = comparison.runs_of(lora)
    assert len(runs) == len(LEARNING_RATES) * len(SEEDS)
    assert {run.method for run in runs} == {lora.identity}
    chosen = comparison.chosen_runs(lora)
    assert [run.seed for run in chosen] == list(SEEDS)
    assert {run.learning_rate for run in chosen} == {lora.learning_rate}
    assert comparison.runs_of(made.row("nobody")) == []


def test_the_metric_is_that_of_the_first_run_that_has_one():
    runs = [made.failed_run(), made.run(metric="f1")]
    assert made.comparison([made.row()], runs).metric == "f1"
    assert made.comparison([made.row()]).metric == "score"
