"""What the charts of a comparison have in common: strokes, bands, folds, names at their ends.

A method name keeps its colour in every chart; the baseline is drawn in ink, the colour of the text.
Lines are solid in the budget that is looked at and dotted where they are references from another.
Colour never stands alone: every line ends in its name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from rankwise.comparison.records import SummaryRow
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.series import Series, folds_within
from rankwise.pages import drawing
from rankwise.pages.drawing import End
from rankwise.pages.palette import INK


@dataclass(frozen=True)
class Stroke:
    """A row, the series to draw for it, and the colour that its method has in every chart."""

    row: SummaryRow
    series: Series
    colour: str

    def trace(self, role: str, **properties: Any) -> go.Scatter:
        """Make a trace of this row; ``role`` says what it shows."""
        return drawing.trace_of(self.row.name, self.row.label, role, **properties)


def strokes_of(comparison: Comparison, series_of: Callable[[SummaryRow], Series]) -> list[Stroke]:
    """Pair every scored row that has something to draw with its series and its colour."""
    rows, colours = comparison.scored, comparison.colours
    strokes = [Stroke(row, series_of(row), colours[row.name]) for row in rows]
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
    """Name each line at the right edge: by the method alone where it is alone in the view."""
    names = [stroke.row.name for stroke in strokes]
    ends = [
        End(
            stroke.row.name,
            stroke.row.label,
            stroke.row.name if names.count(stroke.row.name) == 1 else stroke.row.label,
            stroke.colour,
            stroke.series.points[-1],
        )
        for stroke in strokes
    ]
    return drawing.end_labels(ends, x=x, span=span)
