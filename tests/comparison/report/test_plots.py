"""The charts show the records: each trace against the numbers it stands for."""

from __future__ import annotations

import itertools
import re
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.comparison.report import drawing, palette, plots, series
from tests.comparison.report_records import LEARNING_RATES, made_up_comparison

SUMMARY, RUNS = made_up_comparison()
FAILED_LABEL = "rac-lora r=2, right"

# Machado, Oliveira, Fernandes (2009), severity 1.0, on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "deuteranope": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanope": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}


def traces(figure, role):
    """The traces of a figure that play ``role``, by their name."""
    return {trace.name: trace for trace in figure.data if trace.meta["role"] == role}


def row_of(label, budget="300"):
    """The row of the made-up summary with this label."""
    rows = [row for row in SUMMARY["methods"] if row["budget"] == budget]
    return next(row for row in rows if series.label(row) == label)


def labels_in(*shown):
    """The labels of the scored rows in the budgets ``shown``."""
    rows = [row for row in SUMMARY["methods"] if row["budget"] in shown and series.is_scored(row)]
    return {series.label(row) for row in rows}


def linear(colour):
    """The linear RGB values of ``#RRGGBB``."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    """OKLab coordinates of linear RGB (Ottosson 2020)."""
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(to_lab) @ np.cbrt(np.array(to_lms) @ np.clip(rgb, 0, 1))


def contrast(one, two):
    """The contrast ratio of WCAG 2."""
    weights = [0.2126, 0.7152, 0.0722]
    darker, lighter = sorted((linear(one) @ weights, linear(two) @ weights))
    return (lighter + 0.05) / (darker + 0.05)


def test_a_learning_curve_is_the_mean_over_seeds_at_the_chosen_rate():
    lora = row_of("lora r=1")
    line = traces(plots.learning_curves(SUMMARY, RUNS, "300"), "line")["lora r=1"]
    runs = [
        run
        for run in RUNS
        if run["method"]["name"] == "lora"
        and run["method"]["r"] == 1
        and run["learning_rate"] == lora["learning_rate"]
    ]
    assert len(runs) == 3
    for i, step in enumerate(line.x):
        points = [run["curve"][i] for run in runs]
        assert {point["step"] for point in points} == {step}
        assert line.y[i] == pytest.approx(fmean(point["validation_score"] for point in points))


def test_the_band_runs_along_the_highest_seed_and_back_along_the_lowest():
    band = traces(plots.learning_curves(SUMMARY, RUNS, "300"), "band")["lora r=1"]
    curve = series.learning_curve(row_of("lora r=1"), RUNS)
    assert band.x == (*curve.x, *reversed(curve.x))
    assert band.y == (*curve.high, *reversed(curve.low))


@pytest.mark.parametrize("draw", [plots.learning_curves, plots.score_by_learning_rate])
@pytest.mark.parametrize("view", ["300", "1200", "papers"])
def test_a_view_holds_its_budget_and_the_references_without_failed_rows(draw, view):
    shown = traces(draw(SUMMARY, RUNS, view), "line")
    assert set(shown) == labels_in(view, "full")
    assert FAILED_LABEL not in shown
    assert {name for name, line in shown.items() if line.line.dash == "dot"} == {"full"}


def test_folds_lie_on_the_curve_of_their_chain():
    figure = plots.learning_curves(SUMMARY, RUNS, "300")
    folds, line = (
        traces(figure, "folds")["cola r=1, both"],
        traces(figure, "line")["cola r=1, both"],
    )
    heights = dict(zip(line.x, line.y))
    assert list(folds.x) == [150, 300, 450]
    assert list(folds.y) == pytest.approx([heights[step] for step in folds.x])
    assert not traces(figure, "folds")["lora r=1"].x


def test_the_scale_of_the_curves_fits_what_follows_the_first_quarter():
    figure = plots.learning_curves(SUMMARY, RUNS, "300")
    low, high = figure.layout.yaxis.range
    for band in traces(figure, "band").values():
        settled = [y for x, y in zip(band.x, band.y) if x >= 150]
        assert low < min(settled)
        assert max(settled) < high
    assert low > min(traces(figure, "line")["lora r=1"].y)


def test_every_view_has_the_same_scale():
    ranges = {
        plots.learning_curves(SUMMARY, RUNS, view).layout.yaxis.range for view in ("300", "1200")
    }
    assert len(ranges) == 1


def test_points_stand_at_their_parameters_and_scores_with_their_interval():
    points = traces(plots.score_by_parameters(SUMMARY, RUNS), "point")
    assert set(points) == labels_in("full", "300", "1200", "papers")
    lora, point = row_of("lora r=1"), points["lora r=1"]
    assert (*point.x, *point.y) == (lora["trainable_parameters"], lora["score_mean"])
    assert lora["score_mean"] + point.error_y.array[0] == pytest.approx(lora["score_high"])
    assert lora["score_mean"] - point.error_y.arrayminus[0] == pytest.approx(lora["score_low"])


def test_a_score_of_one_seed_has_no_whiskers():
    lora = row_of("lora r=1") | {"score_low": None, "score_high": float("nan")}
    (point,) = traces(
        plots.score_by_parameters(SUMMARY | {"methods": [lora]}, []), "point"
    ).values()
    assert (point.error_y.array, point.error_y.arrayminus) == ((None,), (None,))


@pytest.mark.parametrize("count", [0, None])
def test_a_row_without_trainable_parameters_has_no_place_on_the_logarithmic_axis(count):
    rows = [row_of("lora r=1"), row_of("cola r=1, both") | {"trainable_parameters": count}]
    points = traces(plots.score_by_parameters(SUMMARY | {"methods": rows}, RUNS), "point")
    assert list(points) == ["lora r=1"]


def test_the_front_passes_through_what_nothing_beats():
    figure = plots.score_by_parameters(SUMMARY, RUNS)
    front = traces(figure, "front")["Pareto front"]
    drawn = [(point.x[0], point.y[0]) for point in traces(figure, "point").values()]
    unbeaten = [
        (count, score)
        for count, score in drawn
        if not any(c <= count and s >= score and (c, s) != (count, score) for c, s in drawn)
    ]
    assert list(zip(front.x, front.y)) == sorted(unbeaten)
    assert front.line.shape == "hv"


def test_of_close_neighbours_on_the_front_only_the_best_is_named():
    figure = plots.score_by_parameters(SUMMARY, RUNS)
    counts = sorted(label.x[0] for label in traces(figure, "label").values())
    assert all(1.3 * low < high for low, high in itertools.pairwise(counts))
    assert counts[-1] == traces(figure, "front")["Pareto front"].x[-1]


def test_a_budget_keeps_its_marker():
    points = [t for t in plots.score_by_parameters(SUMMARY, RUNS).data if t.meta["role"] == "point"]
    rows = [row for row in SUMMARY["methods"] if series.is_scored(row)]
    symbols = {(row["budget"], point.marker.symbol) for row, point in zip(rows, points)}
    assert symbols == set(plots.markers(SUMMARY).items())
    assert len({symbol for _, symbol in symbols}) == 4


def test_a_sweep_shows_the_means_and_rings_the_chosen_rate():
    figure = plots.score_by_learning_rate(SUMMARY, RUNS, "300")
    lora, line = row_of("lora r=1"), traces(figure, "line")["lora r=1"]
    means = dict(zip(line.x, line.y))
    assert list(means) == LEARNING_RATES
    assert means[lora["learning_rate"]] == pytest.approx(lora["score_validation"])
    ring = traces(figure, "chosen")["lora r=1"]
    assert (ring.x, ring.y) == ((lora["learning_rate"],), (means[lora["learning_rate"]],))


def test_a_rate_at_which_a_run_failed_is_a_gap_with_a_cross_on_the_axis():
    figure = plots.score_by_learning_rate(SUMMARY, RUNS, "300")
    assert traces(figure, "line")["delora r=1"].y[-1] is None
    cross = traces(figure, "failed")["delora r=1"]
    assert (cross.x, cross.y) == ((0.1,), (figure.layout.yaxis.range[0],))
    assert not traces(figure, "failed")["lora r=1"].x


def test_a_method_has_one_colour_in_all_charts_and_shares_it_with_none():
    figures = [
        plots.learning_curves(SUMMARY, RUNS, "1200"),
        plots.score_by_learning_rate(SUMMARY, RUNS, "300"),
    ]
    lines = [trace for f in figures for trace in f.data if trace.meta["role"] == "line"]
    drawn = {(line.meta["method"], line.line.color) for line in lines}
    drawn |= {
        (trace.meta["method"], trace.marker.color)
        for trace in plots.score_by_parameters(SUMMARY, RUNS).data
        if trace.meta["role"] == "point"
    }
    names = {row["name"] for row in SUMMARY["methods"]}
    assert {name for name, _ in drawn} == names
    assert len(drawn) == len({colour for _, colour in drawn}) == len(names)
    assert ("lora", palette.INK) in drawn


def test_colours_come_again_past_the_tenth_method():
    rows = [{"name": f"method-{i}"} for i in range(12)]
    given = palette.colours({"protocol": {"baseline": "method-0"}, "methods": rows})
    assert given["method-0"] == palette.INK
    assert given["method-11"] == given["method-1"] == palette.PALETTE[0]


@pytest.mark.parametrize(
    "figure",
    [
        plots.learning_curves(SUMMARY, RUNS, "300"),
        plots.score_by_parameters(SUMMARY, RUNS),
        plots.score_by_learning_rate(SUMMARY, RUNS, "300"),
    ],
)
def test_every_colour_of_a_figure_has_a_twin_for_dark_backgrounds(figure):
    used = set(re.findall(r'"(#[0-9A-Fa-f]{6})"', figure.to_json()))
    assert used
    assert used <= set(palette.DARK)
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"


@pytest.mark.parametrize("colour", [palette.INK, *palette.PALETTE])
def test_colours_stand_out_from_both_backgrounds(colour):
    assert contrast(colour, palette.PAPER) >= 3
    assert contrast(palette.DARK[colour], palette.DARK[palette.PAPER]) >= 4.5


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_pair_of_colours_stays_apart(vision, scheme):
    light = [palette.INK, *palette.PALETTE]
    shown = light if scheme == "light" else [palette.DARK[colour] for colour in light]
    seen = [oklab(VISIONS[vision] @ linear(colour)) for colour in shown]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 0.06


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.floats(0.001, 0.08),
)
def test_spread_names_keep_their_order_their_distance_and_below_the_ceiling(values, gap):
    placed = drawing.spread(values, gap=gap, ceiling=1.0)
    order = sorted(range(len(values)), key=lambda i: values[i])
    heights = [placed[i] for i in order]
    assert all(low + gap <= high + 1e-9 for low, high in itertools.pairwise(heights))
    assert max(placed) <= 1.0


def test_names_that_are_far_apart_already_stay_where_their_lines_end():
    assert drawing.spread([0.9, 0.1, 0.5], gap=0.2, ceiling=1.0) == [0.9, 0.1, 0.5]


def test_each_line_ends_in_its_name_in_full_only_where_it_must():
    rows = [
        row_of("lora r=1"),
        row_of("lora r=4", "1200") | {"budget": "300"},
        row_of("cola r=1, both"),
    ]
    runs = [run | {"method": run["method"] | {"budget": "300"}} for run in RUNS]
    figure = plots.learning_curves(SUMMARY | {"methods": rows}, runs, "300")
    texts = [label.text[-1].removeprefix("&nbsp;") for label in traces(figure, "label").values()]
    assert texts == ["lora r=1", "lora r=4", "cola"]


def test_text_from_records_is_escaped_for_plotly():
    rows = [row | {"name": row["name"].replace("cola", "<b>&'")} for row in SUMMARY["methods"]]
    runs = [
        run | {"method": run["method"] | {"name": run["method"]["name"].replace("cola", "<b>&'")}}
        for run in RUNS
    ]
    figure = plots.learning_curves(SUMMARY | {"methods": rows}, runs, "300")
    assert "&lt;b&gt;&amp;' r=1, both" in traces(figure, "line")
    assert not any("<b>" in text for t in traces(figure, "label").values() for text in t.text)


@pytest.mark.parametrize("draw", [plots.learning_curves, plots.score_by_learning_rate])
def test_nothing_scored_makes_an_empty_chart(draw):
    rows = [row | {"status": "failed: no", "score_mean": None} for row in SUMMARY["methods"]]
    failed = SUMMARY | {"methods": rows}
    assert not draw(failed, [], "300").data
    assert not traces(plots.score_by_parameters(failed, []), "point")


@pytest.mark.parametrize(
    ("draw", "key", "steps"),
    [
        (plots.strength, "strength", [0, 1, 2, 3, 5]),
        (plots.followed, "followed", [0, 1, 3, 8, 20]),
        (plots.batch_loss, "batch_loss", [0, 1, 2, 3, 5]),
    ],
)
def test_what_was_seen_of_the_change_is_the_mean_over_seeds_of_the_chosen_runs(draw, key, steps):
    lines = traces(draw(SUMMARY, RUNS, "300"), "line")
    assert set(lines) == labels_in("300", "full")
    line, row = lines["delora r=1"], row_of("delora r=1")
    assert list(line.x[:5]) == steps
    seen = [
        point[key]
        for run in series.chosen_runs(row, RUNS)
        for point in run["diagnostics"]
        if point["step"] == 8
    ]
    assert line.y[list(line.x).index(8)] == pytest.approx(fmean(seen))


def test_folds_are_marked_on_the_strength_and_lie_beyond_the_first_steps():
    marks = traces(plots.strength(SUMMARY, RUNS, "300"), "folds")
    assert list(marks["cola r=1, both"].x) == [150, 300, 450]
    assert list(marks["lora r=1"].x) == []
    first = traces(plots.followed(SUMMARY, RUNS, "300"), "folds")
    assert list(first["cola r=1, both"].x) == []


def test_runs_without_diagnostics_make_an_empty_chart():
    bare = [{**run, "diagnostics": []} for run in RUNS]
    assert traces(plots.strength(SUMMARY, bare, "300"), "line") == {}
