"""What the charts of a comparison have in common: strokes, bands, names at their ends, the frame.

A method name keeps its colour in every chart; the baseline is drawn in ink, the colour of the text.
Lines are solid in the budget that is looked at and dotted where they are references from another.
Colour never stands alone: every line ends in its name.

Each trace carries ``meta = {"method": name or None, "role": ...}``, by which the page highlights a
method or drops the labels where there is no room.
"""

from __future__ import annotations

import html
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.palette import GRID, INK, MUTED, colours
from rankwise.comparison.report.series import Series, folds_within
from rankwise.training.records import MethodIdentity, SummaryRow

HEIGHT, LABEL_HEIGHT = 420, 17
MARGIN = {"l": 52, "r": 172, "t": 34, "b": 48}


@dataclass(frozen=True)
class Stroke:
    """A row, the series to draw for it, and the colour that its method has in every chart."""

    row: SummaryRow
    series: Series
    colour: str

    def trace(self, role: str, **properties: Any) -> go.Scatter:
        """Make a trace of this row; ``role`` says what it shows."""
        name = escaped(self.row.label)
        return go.Scatter(name=name, meta={"method": self.row.name, "role": role}, **properties)


def strokes_of(comparison: Comparison, series_of: Callable[[SummaryRow], Series]) -> list[Stroke]:
    """Pair every scored row that has something to draw with its series and its colour."""
    colour_of = colours(comparison.summary)
    strokes = [Stroke(row, series_of(row), colour_of[row.name]) for row in comparison.scored]
    return [stroke for stroke in strokes if stroke.series.points]


def shown_in(strokes: list[Stroke], comparison: Comparison, view: str | None) -> list[Stroke]:
    shown = {row.identity for row in comparison.rows_in(view)}
    return [stroke for stroke in strokes if stroke.row.identity in shown]


def line(stroke: Stroke, *, mode: str, view: str | None) -> go.Scatter:
    is_reference = view is not None and stroke.row.budget != view
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


def band(stroke: Stroke) -> go.Scatter:
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


def folds(stroke: Stroke, comparison: Comparison) -> go.Scatter:
    steps = folds_within(stroke.row, comparison, stroke.series)
    return stroke.trace(
        "folds",
        x=steps,
        y=[_height(stroke.series.points, step) for step in steps],
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 9, "color": stroke.colour},
        hovertemplate="folded at step %{x}",
    )


def _height(points: Sequence[tuple[float, float]], x: float) -> float:
    """Return y of the line through ``points`` at x; beyond its ends it is level."""
    after = bisect_left(points, x, key=lambda point: point[0])
    if after in (0, len(points)):
        return points[min(after, len(points) - 1)][1]
    (left, low), (right, high) = points[after - 1], points[after]
    return low + (high - low) * (x - left) / (right - left)


def end_labels(strokes: list[Stroke], *, x: float, span: tuple[float, float]) -> list[go.Scatter]:
    """Name each line at the right edge, spread so that no two names touch, with a thin leader."""
    names = [stroke.row.name for stroke in strokes]
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


def _short_label(row: MethodIdentity, names: list[str]) -> str:
    """The name alone where it is alone in the view, else the full label."""
    return escaped(row.name if names.count(row.name) == 1 else row.label)


def escaped(text: str) -> str:
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


def span_of(scores: list[float | None]) -> tuple[float, float]:
    """The vertical range that shows all scores with some air, also when there are none."""
    present = [score for score in scores if score is not None]
    low, high = min(present, default=0.0), max(present, default=1.0)
    air = 0.05 * (high - low) or 0.05
    return low - air, high + air


def figure_of(
    traces: list[go.Scatter], *, x_axis: dict[str, Any], y_title: str, span: tuple[float, float]
) -> go.Figure:
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "automargin": False}
    title = {
        "text": escaped(y_title),
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
