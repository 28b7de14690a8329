"""What is drawn over training steps: the validation score, and what was measured meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.drawing import (
    Stroke,
    band,
    end_labels,
    folds,
    line,
    shown_in,
    strokes_of,
)
from rankwise.comparison.report.series import Measure, Series, diagnostic, learning_curve
from rankwise.pages.drawing import figure_of, span_of
from rankwise.pages.writing import listed


def draw_learning_curves(comparison: Comparison, view: str | None) -> go.Figure:
    """Draw validation score over steps at the chosen learning rate, with the range over seeds.

    The scale fits the last three quarters of training, where methods differ; the first rise, which
    all have in common, may begin below it.

    Args:
        view: The budget to draw, beside the rows that are alone in theirs; ``None`` for only those.
    """
    strokes = strokes_of(comparison, lambda row: learning_curve(row, comparison))
    span = span_of([score for stroke in strokes for score in _late(stroke.series)])
    title = f"validation {comparison.metric}"
    return _over_steps(strokes, comparison, view, span=span, y_title=title)


def tell_learning_curves(comparison: Comparison, view: str | None) -> str:
    """Rank the rows of a view by the mean validation score of their last evaluation."""
    ends = [
        (points[-1][1], row.label)
        for row in comparison.scored_in(view)
        if (points := learning_curve(row, comparison).points)
    ]
    ranked = [f"{name}: {end:.3f}" for end, name in sorted(ends, reverse=True)]
    return listed(ranked, opening="Last evaluation, highest first")


@dataclass(frozen=True)
class Quantity:
    """Something that was measured while the runs trained.

    Attributes:
        measure: Reads it from a point of a record.
        title: Of the axis.
        opening: Of the words, which rank rows by their value ``told_at``: 0 is the first point, -1
            the last.
    """

    measure: Measure
    title: str
    opening: str
    told_at: int

    def draw(self, comparison: Comparison, view: str | None) -> go.Figure:
        """Draw it over steps at the chosen learning rate, with the range over seeds."""
        strokes = strokes_of(comparison, lambda row: diagnostic(row, comparison, self.measure))
        shown = shown_in(strokes, comparison, view)
        span = span_of([bound for each in shown for bound in (*each.series.low, *each.series.high)])
        return _over_steps(strokes, comparison, view, span=span, y_title=self.title)

    def tell(self, comparison: Comparison, view: str | None) -> str:
        """Rank the rows of a view by it."""
        found = [
            (seen.points[self.told_at][1], row.label)
            for row in comparison.scored_in(view)
            if (seen := diagnostic(row, comparison, self.measure)).points
        ]
        ranked = [f"{name}: {value:.3f}" for value, name in sorted(found, reverse=True)]
        return listed(ranked, opening=self.opening)


RELATIVE_NORM = Quantity(
    lambda point: point.relative_norm, "‖ΔW‖ / ‖W‖", "In the end, largest first", told_at=-1
)
CAPTURED_SHARE = Quantity(
    lambda point: point.captured_share, "share of the gradient", "Before the first step", told_at=0
)
BATCH_LOSS = Quantity(
    lambda point: point.batch_loss, "loss of one batch", "After them, highest first", told_at=-1
)


def _over_steps(
    strokes: list[Stroke],
    comparison: Comparison,
    view: str | None,
    *,
    span: tuple[float, float],
    y_title: str,
) -> go.Figure:
    shown = shown_in(strokes, comparison, view)
    last = max((stroke.series.x[-1] for stroke in shown), default=1)
    traces = [band(stroke) for stroke in shown]
    traces += [line(stroke, mode="lines", view=view) for stroke in shown]
    traces += [folds(stroke, comparison) for stroke in shown]
    traces += end_labels(shown, x=1.03 * last, span=span)
    axis = {"title": {"text": "training step"}, "range": [0, 1.03 * last]}
    return figure_of(traces, x_axis=axis, y_title=y_title, span=span)


def _late(curve: Series) -> list[float | None]:
    """The lowest and highest scores after the first quarter of a curve."""
    points = zip(curve.x, curve.low, curve.high)
    return [bound for x, *bounds in points if x >= curve.x[-1] / 4 for bound in bounds]
