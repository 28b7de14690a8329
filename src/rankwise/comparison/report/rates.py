"""Validation score over learning rate: how much depends on choosing it well."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.drawing import Stroke, end_labels, line, shown_in, strokes_of
from rankwise.comparison.report.series import learning_rate_sweep
from rankwise.pages.drawing import figure_of, span_of
from rankwise.pages.writing import listed


def draw(comparison: Comparison, view: str | None) -> go.Figure:
    """Draw validation score over learning rate; the chosen rate is ringed, a failure leaves a gap.

    A cross on the axis stands at each learning rate where a run of the method failed.

    Args:
        view: The budget to draw, beside the rows that are alone in theirs; ``None`` for only those.
    """
    strokes = strokes_of(comparison, lambda row: learning_rate_sweep(row, comparison))
    shown = shown_in(strokes, comparison, view)
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
        # What stands behind the end, be it by the last digit, is not drawn: the names stand there.
        "range": [math.log10(rates[0] / margin), math.log10(rates[-1] * margin) + 1e-6],
    }
    title = f"validation {comparison.metric}"
    return figure_of(traces, x_axis=axis, y_title=title, span=span)


def tell(comparison: Comparison, view: str | None) -> str:
    """Rank the rows of a view by what the worst learning rate costs against the best."""
    falls = []
    for row in comparison.scored_in(view):
        sweep = learning_rate_sweep(row, comparison)
        scores = [score for _, score in sweep.points]
        if scores:
            failed = len(sweep.x) - len(scores)
            aside = f" (runs failed at {failed} more)" if failed else ""
            falls.append((max(scores) - min(scores), row.label, aside))
    ranked = [f"{name}: {fall:.3f}{aside}" for fall, name, aside in sorted(falls)]
    return listed(ranked, opening="Fall from the best to the worst learning rate, smallest first")


def _chosen_rate(stroke: Stroke) -> go.Scatter:
    means = dict(zip(stroke.series.x, stroke.series.mean))
    rate = stroke.row.learning_rate
    return stroke.trace(
        "chosen",
        x=[rate],
        y=[None if rate is None else means.get(rate)],
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
