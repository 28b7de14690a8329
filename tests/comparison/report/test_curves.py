"""Over training steps: each trace against the records that it stands for."""

from __future__ import annotations

from statistics import fmean

import pytest

from rankwise.comparison.report import curves
from rankwise.comparison.report.series import learning_curve
from rankwise.pages.writing import NOTHING
from tests.comparison import made_records as made
from tests.comparison.report.charts_of import (
    COMPARISON,
    labels_in,
    labels_told,
    row_of,
    traces,
)
from tests.comparison.report_records import with_rows, with_runs


@pytest.fixture(scope="module")
def figure():
    return curves.draw_learning_curves(COMPARISON, "300")


def test_a_learning_curve_is_the_mean_over_seeds_at_the_chosen_rate(figure):
    lora = row_of("lora r=1")
    line = traces(figure, "line")["lora r=1"]
    runs = [
        run
        for run in COMPARISON.runs
        if run.method == lora.identity and run.learning_rate == lora.learning_rate
    ]
    assert len(runs) == 3
    for i, step in enumerate(line.x):
        points = [run.curve[i] for run in runs]
        assert {point.step for point in points} == {step}
        assert line.y[i] == pytest.approx(fmean(point.validation_score for point in points))


def test_the_band_runs_along_the_highest_seed_and_back_along_the_lowest(figure):
    band = traces(figure, "band")["lora r=1"]
    curve = learning_curve(row_of("lora r=1"), COMPARISON)
    assert band.x == (*curve.x, *reversed(curve.x))
    assert band.y == (*curve.high, *reversed(curve.low))


def test_folds_lie_on_the_curve_of_their_chain(figure):
    folds, line = (
        traces(figure, "folds")["cola r=1, both"],
        traces(figure, "line")["cola r=1, both"],
    )
    heights = dict(zip(line.x, line.y))
    assert list(folds.x) == [150, 300, 450]
    assert list(folds.y) == pytest.approx([heights[step] for step in folds.x])
    assert not traces(figure, "folds")["lora r=1"].x


def test_the_scale_of_the_curves_fits_what_follows_the_first_quarter(figure):
    low, high = figure.layout.yaxis.range
    for band in traces(figure, "band").values():
        late = [y for x, y in zip(band.x, band.y) if x >= 150]
        assert low < min(late)
        assert max(late) < high
    assert low > min(traces(figure, "line")["lora r=1"].y)


def test_every_view_has_the_same_scale(figure):
    other = curves.draw_learning_curves(COMPARISON, "1200")
    assert figure.layout.yaxis.range == other.layout.yaxis.range


def test_each_line_ends_in_its_name_in_full_only_where_it_must():
    rows = [
        row_of("lora r=1"),
        row_of("lora r=4", "1200").model_copy(update={"budget": "300"}),
        row_of("cola r=1, both"),
    ]
    runs = [
        run.model_copy(update={"method": run.method.model_copy(update={"budget": "300"})})
        for run in COMPARISON.runs
    ]
    comparison = with_runs(with_rows(COMPARISON, rows), runs)
    figure = curves.draw_learning_curves(comparison, "300")
    texts = [label.text[-1].removeprefix("&nbsp;") for label in traces(figure, "label").values()]
    assert texts == ["lora r=1", "lora r=4", "cola"]


def test_text_from_records_is_escaped_for_plotly():
    hostile = made.method("<b>&'", r=1)
    runs = [made.run(hostile, 0.5, rate=0.1, seed=seed) for seed in range(2)]
    comparison = made.comparison([made.row("<b>&'", r=1), made.row("lora")], runs)
    figure = curves.draw_learning_curves(comparison, "300")
    assert "&lt;b&gt;&amp;' r=1" in traces(figure, "line")
    assert not any("<b>" in text for t in traces(figure, "label").values() for text in t.text)


def test_learning_curves_are_told_by_their_last_evaluation():
    caption = curves.tell_learning_curves(COMPARISON, "300")
    rows = {row.label: row for row in COMPARISON.rows_in("300")}
    told = labels_told(caption)
    ends = [learning_curve(rows[name], COMPARISON).points[-1][1] for name in told]
    assert len(ends) == 11
    assert ends == sorted(ends, reverse=True)
    assert f"; lora r=1: {rows['lora r=1'].score_validation:.3f};" in caption


QUANTITIES = [
    (curves.RELATIVE_NORM, [0, 1, 2, 3, 5]),
    (curves.CAPTURED_SHARE, [0, 1, 3, 8, 20]),
    (curves.BATCH_LOSS, [0, 1, 2, 3, 5]),
]


@pytest.mark.parametrize(("quantity", "steps"), QUANTITIES)
def test_what_was_measured_is_the_mean_over_seeds_of_the_chosen_runs(quantity, steps):
    lines = traces(quantity.draw(COMPARISON, "300"), "line")
    assert set(lines) == labels_in("300", "full")
    line, row = lines["delora r=1"], row_of("delora r=1")
    assert list(line.x[:5]) == steps
    seen = [
        quantity.measure(point)
        for run in COMPARISON.chosen_runs(row)
        for point in run.diagnostics
        if point.step == 8
    ]
    assert line.y[list(line.x).index(8)] == pytest.approx(fmean(seen))


def test_folds_are_marked_on_the_relative_norm_and_lie_beyond_the_first_steps():
    marks = traces(curves.RELATIVE_NORM.draw(COMPARISON, "300"), "folds")
    assert list(marks["cola r=1, both"].x) == [150, 300, 450]
    assert list(marks["lora r=1"].x) == []
    first = traces(curves.CAPTURED_SHARE.draw(COMPARISON, "300"), "folds")
    assert list(first["cola r=1, both"].x) == []


def test_a_quantity_is_told_from_the_largest_down():
    words = curves.RELATIVE_NORM.tell(COMPARISON, "300")
    values = [float(item.rsplit(": ", 1)[1]) for item in words.rstrip(".").split("; ")]
    assert words.startswith("In the end, largest first. ")
    assert values == sorted(values, reverse=True)


def test_runs_without_diagnostics_make_an_empty_chart():
    bare = with_runs(COMPARISON, COMPARISON.runs, diagnostics=())
    assert traces(curves.RELATIVE_NORM.draw(bare, "300"), "line") == {}
    assert curves.RELATIVE_NORM.tell(bare, "300") == NOTHING
