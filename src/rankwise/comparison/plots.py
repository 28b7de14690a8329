"""The charts of a comparison, as Plotly figures made from records alone.

A method name keeps its colour in every chart; the baseline is drawn in ink, the colour of the text.
Lines are solid in the budget that is looked at and dotted where they are references from another; a
budget keeps its marker. Colour never stands alone: every line ends in its name.

Each trace carries ``meta = {"method": name or None, "role": ...}``, by which the page highlights a
method or drops the labels where there is no room.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rankwise.comparison import series
from rankwise.comparison.palette import GRID, INK, MUTED, PAPER, colours
from rankwise.comparison.series import Row, Run, Series

MARKERS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "cross": "✚"}

HEIGHT, LABEL_HEIGHT = 420, 17
MARGIN = {"l": 52, "r": 172, "t": 34, "b": 48}


@dataclass(frozen=True)
class Stroke:
    """A row, the series to draw for it, and the colour that its method has in every chart."""

    row: Row
    series: Series
    colour: str

    def trace(self, role: str, **properties: Any) -> go.Scatter:
        """Make a trace of this row; ``role`` says what it shows."""
        name = _escaped(series.label(self.row))
        return go.Scatter(name=name, meta={"method": self.row["name"], "role": role}, **properties)


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
    strokes = _strokes(summary, lambda row: series.learning_curve(row, runs))
    shown = _shown(strokes, summary, view)
    span = _span([score for stroke in strokes for score in _settled(stroke.series)])
    last = max((s.series.x[-1] for s in shown), default=1)
    traces = [_band(stroke) for stroke in shown]
    traces += [_line(stroke, mode="lines", view=view) for stroke in shown]
    traces += [_folds(stroke, runs) for stroke in shown]
    traces += _end_labels(shown, x=1.03 * last, span=span)
    axis = {"title": {"text": "training step"}, "range": [0, 1.03 * last]}
    return _figure(traces, x_axis=axis, y_title=f"validation {series.metric(runs)}", span=span)


def score_by_parameters(summary: dict[str, Any], runs: list[Run]) -> go.Figure:
    """Draw test score, with its interval, over trainable parameters, and the Pareto front."""
    front = series.pareto_front(summary["methods"])
    strokes = _strokes(summary, _test_score)
    symbols = markers(summary)
    traces = [_front(front)]
    traces += [_point(stroke, symbols[series.budget_of(stroke.row)]) for stroke in strokes]
    ends = _logarithmic([stroke.series.x[0] for stroke in strokes])
    traces += [_point_label(stroke, ends) for stroke in strokes if stroke.row in _roomy(front)]
    span = _span([s for k in strokes for s in (*k.series.low, *k.series.mean, *k.series.high)])
    axis = {
        "title": {"text": "trainable parameters"},
        "type": "log",
        "tickformat": "~s",
        "dtick": "D2",
        "range": ends,
    }
    figure = _figure(traces, x_axis=axis, y_title=f"test {series.metric(runs)}", span=span)
    return figure.update_layout(margin={"r": 24})


def score_by_learning_rate(summary: dict[str, Any], runs: list[Run], view: str | None) -> go.Figure:
    """Draw validation score over learning rate; the chosen rate is ringed, a failure leaves a gap.

    A cross on the axis stands at each learning rate where a run of the method failed.

    Args:
        view: The budget to draw, beside the rows that are alone in theirs; ``None`` for only those.
    """
    strokes = _strokes(summary, lambda row: series.learning_rate_sweep(row, runs))
    shown = _shown(strokes, summary, view)
    span = _span([score for stroke in strokes for score in stroke.series.mean])
    rates = sorted({rate for stroke in shown for rate in stroke.series.x}) or [1.0]
    margin = max((rates[-1] / rates[0]) ** 0.04, 1.04)
    traces = [_line(stroke, mode="lines+markers", view=view) for stroke in shown]
    traces += [_chosen_rate(stroke) for stroke in shown]
    traces += [_failed_rates(stroke, floor=span[0]) for stroke in shown]
    traces += _end_labels(shown, x=rates[-1] * margin, span=span)
    axis = {
        "title": {"text": "learning rate"},
        "type": "log",
        "tickvals": rates,
        "ticktext": [f"{rate:g}" for rate in rates],
        "range": [math.log10(rates[0] / margin), math.log10(rates[-1] * margin)],
    }
    return _figure(traces, x_axis=axis, y_title=f"validation {series.metric(runs)}", span=span)


def _strokes(summary: dict[str, Any], series_of: Callable[[Row], Series]) -> list[Stroke]:
    """Pair every scored row that has something to draw with its series and its colour."""
    colour_of = colours(summary)
    scored = [row for row in summary["methods"] if series.is_scored(row)]
    strokes = [Stroke(row, series_of(row), colour_of[row["name"]]) for row in scored]
    return [stroke for stroke in strokes if stroke.series.points]


def _shown(strokes: list[Stroke], summary: dict[str, Any], view: str | None) -> list[Stroke]:
    rows = series.rows_in_view(summary["methods"], view)
    return [stroke for stroke in strokes if stroke.row in rows]


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


def _line(stroke: Stroke, *, mode: str, view: str | None) -> go.Scatter:
    is_reference = view is not None and series.budget_of(stroke.row) != view
    return stroke.trace(
        "line",
        x=stroke.series.x,
        y=stroke.series.mean,
        mode=mode,
        line={
            "color": stroke.colour,
            "dash": "dot" if is_reference else "solid",
            "width": 3 if stroke.colour == INK else 2,
        },
        marker={"size": 6},
        customdata=list(zip(stroke.series.low, stroke.series.high)),
        hovertemplate="%{y:.4~f} (seeds %{customdata[0]:.4~f} to %{customdata[1]:.4~f}) at %{x}",
    )


def _band(stroke: Stroke) -> go.Scatter:
    x, low, high = stroke.series.x, stroke.series.low, stroke.series.high
    return stroke.trace(
        "band",
        x=(*x, *reversed(x)),
        y=(*high, *reversed(low)),
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=stroke.colour,
        opacity=0.1,
        hoverinfo="skip",
    )


def _folds(stroke: Stroke, runs: list[Run]) -> go.Scatter:
    steps = series.folds_within(stroke.row, runs, stroke.series)
    evaluated, means = zip(*stroke.series.points)
    return stroke.trace(
        "folds",
        x=steps,
        y=[float(y) for y in np.interp(steps, evaluated, means)],
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 9, "color": stroke.colour},
        hovertemplate="folded at step %{x}",
    )


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
    name, space = _escaped(series.label(stroke.row)), "&nbsp;&nbsp;"
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


def _end_labels(strokes: list[Stroke], *, x: float, span: tuple[float, float]) -> list[go.Scatter]:
    """Name each line at the right edge, spread so that no two names touch, with a thin leader."""
    names = [stroke.row["name"] for stroke in strokes]
    ends = [stroke.series.points[-1] for stroke in strokes]
    plot_height = HEIGHT - MARGIN["t"] - MARGIN["b"]
    gap = (span[1] - span[0]) * LABEL_HEIGHT / plot_height
    heights = spread([end[1] for end in ends], gap=gap, ceiling=span[1])
    return [
        stroke.trace(
            "label",
            x=[end[0], x],
            y=[end[1], height],
            mode="lines+text",
            text=["", "&nbsp;" + _short_label(stroke.row, names)],
            textposition="middle right",
            textfont={"color": stroke.colour},
            line={"color": stroke.colour, "width": 0.75},
            cliponaxis=False,
            hoverinfo="skip",
        )
        for stroke, end, height in zip(strokes, ends, heights)
    ]


def _short_label(row: Row, names: list[str]) -> str:
    """The name alone where it is alone in the view, else the full label."""
    return _escaped(row["name"] if names.count(row["name"]) == 1 else series.label(row))


def _escaped(text: str) -> str:
    """Keep Plotly from reading markup in a text; it would show an escaped quote as it stands."""
    return html.escape(text, quote=False)


def spread(values: list[float], *, gap: float, ceiling: float) -> list[float]:
    """Move ``values`` at least ``gap`` apart, in their order and not above ``ceiling``."""
    order = sorted(range(len(values)), key=values.__getitem__)
    placed = list(values)
    for below, above in pairwise(order):
        placed[above] = max(placed[above], placed[below] + gap)
    if order:
        placed[order[-1]] = min(placed[order[-1]], ceiling)
    for above, below in pairwise(reversed(order)):
        placed[below] = min(placed[below], placed[above] - gap)
    return placed


def _span(scores: list[float | None]) -> tuple[float, float]:
    """The vertical range that shows all scores with some air, also when there are none."""
    present = [score for score in scores if score is not None]
    low, high = min(present, default=0.0), max(present, default=1.0)
    air = 0.05 * (high - low) or 0.05
    return low - air, high + air


def _figure(
    traces: list[go.Scatter], *, x_axis: dict[str, Any], y_title: str, span: tuple[float, float]
) -> go.Figure:
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "automargin": False}
    title = {
        "text": _escaped(y_title),
        "x": 0,
        "y": 1,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": "bottom",
        "yshift": 8,
        "showarrow": False,
    }
    return go.Figure(
        traces,
        layout={
            "template": "none",
            "height": HEIGHT,
            "margin": MARGIN,
            "showlegend": False,
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 13, "color": MUTED},
            "hoverlabel": {"align": "left", "namelength": -1},
            "xaxis": {**axis, "showgrid": False, "ticks": "outside", "tickcolor": GRID, **x_axis},
            "yaxis": {**axis, "range": list(span)},
            "annotations": [title],
        },
    ).update_xaxes(title_font_size=13)
