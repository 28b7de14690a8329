"""The table of charts: what is shown of which comparison, and what all charts have in common."""

from __future__ import annotations

import re

import pytest

from rankwise.comparison.report.charts import CHARTS
from rankwise.pages import palette
from rankwise.pages.chart import pictures_of, shown_charts
from rankwise.pages.writing import NOTHING
from tests.comparison import made_records as made
from tests.comparison.report.charts_of import COMPARISON, labels_in, traces
from tests.comparison.report_records import with_rows, with_runs

BY_ID = {chart.id: chart for chart in CHARTS}
VIEWS = ["300", "1200", "papers"]
FOR_ALL = [
    "differences",
    "score-by-parameters",
    "score-by-time",
    "score-by-memory",
    "score-by-forgetting",
    "score-by-rank",
    "distribution",
]
BY_BUDGET = ["learning-curves", "score-by-learning-rate", "relative-norm"]


def ids(comparison):
    return [chart.id for chart in shown_charts(CHARTS, comparison)]


def test_each_chart_has_an_id_of_its_own():
    assert len(BY_ID) == len(CHARTS)


def test_a_chart_is_shown_where_there_is_something_to_draw():
    assert ids(COMPARISON) == [chart.id for chart in CHARTS]
    unmeasured = with_runs(COMPARISON, COMPARISON.runs, diagnostics=())
    assert not {"relative-norm", "captured-share", "batch-loss"} & set(ids(unmeasured))
    one_rank = with_rows(COMPARISON, [row for row in COMPARISON.rows if row.budget == "300"])
    assert "score-by-rank" not in ids(one_rank)
    assert "distribution" not in ids(made.comparison([made.row()]))


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.id)
def test_there_is_a_picture_for_each_budget_or_one_for_all(chart):
    pictures = pictures_of(chart, COMPARISON)
    assert [picture.view for picture in pictures] == ([None] if chart.id in FOR_ALL else VIEWS)
    assert all(picture.caption.endswith(".") for picture in pictures)
    assert chart.note(COMPARISON).endswith(".")


@pytest.mark.parametrize("chart", BY_BUDGET)
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_holds_its_budget_and_the_references_without_failed_rows(chart, view):
    shown = traces(BY_ID[chart].draw(COMPARISON, view), "line")
    assert set(shown) == labels_in(view, "full")
    assert "rac-lora r=2, right" not in shown
    assert {name for name, line in shown.items() if line.line.dash == "dot"} == {"full"}


@pytest.mark.parametrize("chart", BY_BUDGET)
def test_nothing_scored_makes_an_empty_chart(chart):
    failed = with_runs(with_rows(COMPARISON, [made.failed_row()]), [])
    assert not BY_ID[chart].draw(failed, "300").data
    assert BY_ID[chart].caption(failed, "300") == NOTHING


def test_a_method_has_one_colour_in_all_charts_and_shares_it_with_none():
    curves = BY_ID["learning-curves"].draw(COMPARISON, "1200")
    sweeps = BY_ID["score-by-learning-rate"].draw(COMPARISON, "300")
    lines = [trace for f in (curves, sweeps) for trace in f.data if trace.meta["role"] == "line"]
    drawn = {(line.meta["method"], line.line.color) for line in lines}
    drawn |= {
        (trace.meta["method"], trace.marker.color)
        for trace in BY_ID["score-by-parameters"].draw(COMPARISON, None).data
        if trace.meta["role"] == "point"
    }
    names = {row.name for row in COMPARISON.rows}
    assert {name for name, _ in drawn} == names
    assert len(drawn) == len({colour for _, colour in drawn}) == len(names)
    assert ("lora", palette.INK) in drawn


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.id)
def test_every_colour_of_a_figure_has_a_twin_for_dark_backgrounds(chart):
    figure = chart.draw(COMPARISON, "300")
    used = set(re.findall(r'"(#[0-9A-Fa-f]{6})"', figure.to_json()))
    assert used
    assert used <= set(palette.DARK)
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"


@pytest.mark.parametrize("chart", ["learning-curves", "score-by-learning-rate", "score-by-time"])
def test_a_chart_draws_no_more_for_more_seeds(chart):
    def drawn(comparison):
        return [len(trace.x or ()) for trace in BY_ID[chart].draw(comparison, "300").data]

    later = [run.model_copy(update={"seed": run.seed + 3}) for run in COMPARISON.runs]
    assert drawn(with_runs(COMPARISON, [*COMPARISON.runs, *later])) == drawn(COMPARISON)
