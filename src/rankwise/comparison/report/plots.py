"""The charts of a comparison, as Plotly figures made from records alone.

How lines, names and colours are drawn is in ``drawing.py``; a budget keeps its marker.
"""

from __future__ import annotations

import math
from itertools import cycle
from typing import Any

import plotly.graph_objects as go

from rankwise.comparison.report import series
from rankwise.comparison.report.drawing import (
    Stroke,
    band,
    end_labels,
    escaped,
    figure_of,
    folds,
    line,
    shown_in,
    span_of,
    strokes_of,
)
from rankwise.comparison.report.palette import MUTED, PAPER
from rankwise.comparison.report.series import Row, Run, Series

MARKERS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "cross": "✚"}


def markers(summary: dict[str, Any]) -> dict[str, str]:
    """Give every budget its marker, in order of appearance."""
    return dict(zip(series.budgets(summary["methods"]), cycle(MARKERS)))


def learning_curves(summary: dict[str, Any], runs: list[Run], view: str | None) -> go.Figure:
    """Draw validation score over steps at the chosen learning rate, with the range over seeds.

    The scale fits the last three quarters of training, where methods differ; the first rise, which
    all have in common, may begin below it.

    Args:
        view: The budget to draw, beside the rows that are alone in theirs; ``None`` for only those.
    """
    strokes = strokes_of(summary, lambda row: series.learning_curve(row, runs))
    shown = shown_in(strokes, summary, view)
    span = span_of([score for stroke in strokes for score in _settled(stroke.series)])
    last = max((s.series.x[-1] for s in shown), default=1)
    traces = [band(stroke) for stroke in shown]
    traces += [line(stroke, mode="lines", view=view) for stroke in shown]
    traces += [folds(stroke, runs) for stroke in shown]
    traces += end_labels(shown, x=1.03 * last, span=span)
    axis = {"title": {"text": "training step"}, "range": [0, 1.03 * last]}
    return figure_of(traces, x_axis=axis, y_title=f"validation {series.metric(runs)}", span=span)


def score_by_parameters(summary: dict[str, Any], runs: list[Run]) -> go.Figure:
    """Draw test score, with its interval, over trainable parameters, and the Pareto front."""
    front = series.pareto_front(summary["methods"])
    strokes = strokes_of(summary, _test_score)
    symbols = markers(summary)
    traces = [_front(front)]
    traces += [_point(stroke, symbols[series.budget_of(stroke.row)]) for stroke in strokes]
    ends = _logarithmic([stroke.series.x[0] for stroke in strokes])
    traces += [_point_label(stroke, ends) for stroke in strokes if stroke.row in _roomy(front)]
    span = span_of([s for k in strokes for s in (*k.series.low, *k.series.mean, *k.series.high)])
    axis = {
        "title": {"text": "trainable parameters"},
        "type": "log",
        "tickformat": "~s",
        "dtick": "D2",
        "range": ends,
    }
    figure = figure_of(traces, x_axis=axis, y_title=f"test {series.metric(runs)}", span=span)
    return figure.update_layout(margin={"r": 24})


def score_by_learning_rate(summary: dict[str, Any], runs: list[Run], view: str | None) -> go.Figure:
    """Draw validation score over learning rate; the chosen rate is ringed, a failure leaves a gap.

    A cross on the axis stands at each learning rate where a run of the method failed.

    Args:
        view: The budget to draw, beside the rows that are alone in theirs; ``None`` for only those.
    """
    strokes = strokes_of(summary, lambda row: series.learning_rate_sweep(row, runs))
    shown = shown_in(strokes, summary, view)
    span = span_of([score for stroke in strokes for score in stroke.series.mean])
    rates = sorted({rate for stroke in shown for rate in stroke.series.x}) or [1.0]
    margin = max((rates[-1] / rates[0]) ** 0.04, 1.04)
    traces = [line(stroke, mode="lines+markers", view=view) for stroke in shown]
    traces += [_chosen_rate(stroke) for stroke in shown]
    traces += [_failed_rates(stroke, floor=span[0]) for stroke in shown]
    traces += end_labels(shown, x=rates[-1] * margin, span=span)
    axis = {
        "title": {"text": "learning rate"},
        "type": "log",
        "tickvals": rates,
        "ticktext": [f"{rate:g}" for rate in rates],
        "range": [math.log10(rates[0] / margin), math.log10(rates[-1] * margin)],
    }
    return figure_of(traces, x_axis=axis, y_title=f"validation {series.metric(runs)}", span=span)


def strength(summary: dict[str, Any], runs: list[Run], view: str | None) -> go.Figure:
    """Draw ‖ΔW‖ / ‖W‖ over all steps at the chosen learning rate, with the range over seeds."""
    return _diagnostic(summary, runs, view, key="strength", y_title="‖ΔW‖ / ‖W‖")


def followed(summary: dict[str, Any], runs: list[Run], view: str | None) -> go.Figure:
    """Draw the share of the gradient that can be followed over the first steps."""
    return _diagnostic(summary, runs, view, key="followed", y_title="share of the gradient")


def batch_loss(summary: dict[str, Any], runs: list[Run], view: str | None) -> go.Figure:
    """Draw the loss of one batch over the first steps."""
    return _diagnostic(summary, runs, view, key="batch_loss", y_title="loss of one batch")


def _diagnostic(
    summary: dict[str, Any], runs: list[Run], view: str | None, *, key: str, y_title: str
) -> go.Figure:
    strokes = strokes_of(summary, lambda row: series.diagnostic(row, runs, key))
    shown = shown_in(strokes, summary, view)
    span = span_of([bound for each in shown for bound in (*each.series.low, *each.series.high)])
    last = max((each.series.x[-1] for each in shown), default=1)
    traces = [band(stroke) for stroke in shown]
    traces += [line(stroke, mode="lines", view=view) for stroke in shown]
    traces += [folds(stroke, runs) for stroke in shown]
    traces += end_labels(shown, x=1.03 * last, span=span)
    axis = {"title": {"text": "training step"}, "range": [0, 1.03 * last]}
    return figure_of(traces, x_axis=axis, y_title=y_title, span=span)


def _settled(curve: Series) -> list[float | None]:
    """The lowest and highest scores after the first quarter of a curve."""
    points = zip(curve.x, curve.low, curve.high)
    return [bound for x, *bounds in points if x >= curve.x[-1] / 4 for bound in bounds]


def _test_score(row: Row) -> Series:
    """The score as a series of one point; of none where a logarithmic axis has no place for it."""
    count = row["trainable_parameters"]
    if not series.is_number(count) or count <= 0:
        return Series((), (), (), ())
    bounds = (row["score_low"], row["score_high"])
    low, high = (bound if series.is_number(bound) else None for bound in bounds)
    return Series((count,), (row["score_mean"],), (low,), (high,))


def _point(stroke: Stroke, symbol: str) -> go.Scatter:
    mean, (low,), (high,) = stroke.row["score_mean"], stroke.series.low, stroke.series.high
    return stroke.trace(
        "point",
        x=stroke.series.x,
        y=stroke.series.mean,
        mode="markers",
        marker={
            "symbol": symbol,
            "size": 11,
            "color": stroke.colour,
            "line": {"color": PAPER, "width": 1},
        },
        error_y={
            "array": [None if high is None else high - mean],
            "arrayminus": [None if low is None else mean - low],
            "width": 0,
            "thickness": 1,
            "color": stroke.colour,
        },
        hovertemplate="%{y:.4~f} with %{x:,} trainable parameters",
    )


def _point_label(stroke: Stroke, ends: list[float]) -> go.Scatter:
    (high,) = stroke.series.high
    at = (math.log10(stroke.series.x[0]) - ends[0]) / (ends[1] - ends[0])
    # To the left of a point near the edge there is no room.
    is_left = at < 0.35
    name, space = escaped(series.label(stroke.row)), "&nbsp;&nbsp;"
    return stroke.trace(
        "label",
        x=stroke.series.x,
        y=stroke.series.mean if high is None else [high],
        mode="text",
        text=[space + name if is_left else name + space],
        textposition="top right" if is_left else "top left",
        textfont={"color": stroke.colour},
        hoverinfo="skip",
    )


def _front(front: list[Row]) -> go.Scatter:
    return go.Scatter(
        name="Pareto front",
        meta={"method": None, "role": "front"},
        x=[row["trainable_parameters"] for row in front],
        y=[row["score_mean"] for row in front],
        mode="lines",
        line={"color": MUTED, "width": 1.5, "dash": "dot", "shape": "hv"},
        hoverinfo="skip",
    )


def _roomy(front: list[Row]) -> list[Row]:
    """The rows of the front that have room for a name: of close neighbours only the best."""
    named: list[Row] = []
    for row in reversed(front):
        if not named or row["trainable_parameters"] * 1.3 < named[-1]["trainable_parameters"]:
            named.append(row)
    return named


def _logarithmic(counts: list[float]) -> list[float]:
    """The range of a logarithmic axis with some air at both ends."""
    return [math.log10(min(counts, default=1) / 1.6), math.log10(max(counts, default=1) * 1.2)]


def _chosen_rate(stroke: Stroke) -> go.Scatter:
    means = dict(zip(stroke.series.x, stroke.series.mean))
    rate = stroke.row["learning_rate"]
    return stroke.trace(
        "chosen",
        x=[rate],
        y=[means.get(rate)],
        mode="markers",
        marker={
            "symbol": "circle-open",
            "size": 14,
            "color": stroke.colour,
            "line": {"width": 2},
        },
        hoverinfo="skip",
    )


def _failed_rates(stroke: Stroke, *, floor: float) -> go.Scatter:
    rates = [x for x, mean in zip(stroke.series.x, stroke.series.mean) if mean is None]
    return stroke.trace(
        "failed",
        x=rates,
        y=[floor] * len(rates),
        mode="markers",
        marker={"symbol": "x", "size": 10, "color": stroke.colour},
        cliponaxis=False,
        hovertemplate="a run failed at %{x}",
    )
