"""Score against rank: one line for each method that was scored at several ranks."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from rankwise.comparison.records import SummaryRow
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.drawing import Stroke, end_labels, line
from rankwise.comparison.report.series import Series
from rankwise.pages.drawing import figure_of, span_of
from rankwise.pages.writing import listed


def lines_of(comparison: Comparison) -> list[tuple[SummaryRow, Series]]:
    """Return, a method and side, the scores over ranks with their intervals.

    A method without a rank, such as full fine-tuning, is a level line over all of them. There are
    none where no method was scored at two ranks.
    """
    lines = []
    for rows in _ranked_rows(comparison).values():
        ranks = [r for r, _ in rows]
        if len(set(ranks)) == len(ranks) > 1:
            ordered = sorted(rows, key=lambda each: each[0])
            series = _series([r for r, _ in ordered], [row for _, row in ordered])
            # Without its rank a row is called by its name and side.
            lines.append((rows[0][1].model_copy(update={"r": None}), series))
    if not lines:
        return []
    ends = [rank for _, each in lines for rank in (each.x[0], each.x[-1])]
    level = [min(ends), max(ends)]
    unranked = [row for row in comparison.scored if row.r is None]
    return lines + [(row, _series(level, [row, row])) for row in unranked]


def draw(comparison: Comparison, _view: str | None) -> go.Figure:
    """Draw test score over rank, on a logarithmic axis."""
    colour_of = comparison.colours
    strokes = [Stroke(row, each, colour_of[row.name]) for row, each in lines_of(comparison)]
    ranks = sorted({int(rank) for stroke in strokes for rank in stroke.series.x})
    span = span_of([mean for stroke in strokes for mean in stroke.series.mean])
    traces = [line(stroke, mode="lines+markers", view=None) for stroke in strokes]
    traces += end_labels(strokes, x=ranks[-1] * 1.15, span=span)
    axis = {
        "title": {"text": "rank"},
        "type": "log",
        "tickvals": ranks,
        "ticktext": [str(rank) for rank in ranks],
    }
    return figure_of(traces, x_axis=axis, y_title=f"test {comparison.metric}", span=span)


def tell(comparison: Comparison, _view: str | None) -> str:
    """Say for each line its score at the lowest and at the highest rank."""
    return listed(
        [
            f"{row.label}: {points[0][1]:.3f} at {points[0][0]}, "
            f"{points[-1][1]:.3f} at {points[-1][0]}"
            for row, each in lines_of(comparison)
            if (points := each.points)
        ]
    )


def _ranked_rows(
    comparison: Comparison,
) -> dict[tuple[str, str | None], list[tuple[int, SummaryRow]]]:
    groups: dict[tuple[str, str | None], list[tuple[int, SummaryRow]]] = {}
    for row in comparison.scored:
        if row.r is not None:
            groups.setdefault((row.name, row.side), []).append((row.r, row))
    return groups


def _series(ranks: Sequence[float], rows: Sequence[SummaryRow]) -> Series:
    return Series(
        tuple(ranks),
        tuple(row.score_mean for row in rows),
        tuple(row.score_low for row in rows),
        tuple(row.score_high for row in rows),
    )
