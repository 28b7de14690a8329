"""Score against rank: one line for each method that was scored at several ranks."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from rankwise.comparison.report import series
from rankwise.comparison.report.drawing import Stroke, end_labels, figure_of, line, span_of
from rankwise.comparison.report.palette import colours
from rankwise.comparison.report.series import Row, Run, Series


def lines_of(summary: dict[str, Any]) -> list[tuple[Row, Series]]:
    """Return, a method and side, the scores over ranks with their intervals.

    A method without a rank, such as full fine-tuning, is a level line over all of them. There are
    none where no method was scored at two ranks.
    """
    scored = [row for row in summary["methods"] if series.is_scored(row)]
    groups: dict[tuple[str, str | None], list[Row]] = {}
    for row in scored:
        if row["r"] is not None:
            groups.setdefault((row["name"], row["side"]), []).append(row)
    lines = []
    for rows in groups.values():
        ordered = sorted(rows, key=lambda row: row["r"])
        if len({row["r"] for row in rows}) == len(rows) > 1:
            # Without its rank a row is called by its name and side.
            lines.append((rows[0] | {"r": None}, _series([row["r"] for row in ordered], ordered)))
    if not lines:
        return []
    ranks = [rank for _, each in lines for rank in each.x]
    level = [min(ranks), max(ranks)]
    lines += [(row, _series(level, [row, row])) for row in scored if row["r"] is None]
    return lines


def score_by_rank(summary: dict[str, Any], runs: list[Run]) -> go.Figure:
    """Draw test score over rank, on a logarithmic axis."""
    colour_of = colours(summary)
    strokes = [Stroke(row, each, colour_of[row["name"]]) for row, each in lines_of(summary)]
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
    return figure_of(traces, x_axis=axis, y_title=f"test {series.metric(runs)}", span=span)


def told(summary: dict[str, Any]) -> str:
    """Say for each line its score at the lowest and at the highest rank."""
    parts = [
        f"{series.label(row)}: {points[0][1]:.3f} at {points[0][0]}, "
        f"{points[-1][1]:.3f} at {points[-1][0]}"
        for row, each in lines_of(summary)
        if (points := each.points)
    ]
    return "; ".join(parts) + "." if parts else "There is nothing to draw."


def _series(ranks: list[int], rows: list[Row]) -> Series:
    low, high = ([row[bound] for row in rows] for bound in ("score_low", "score_high"))
    return Series(tuple(ranks), tuple(row["score_mean"] for row in rows), tuple(low), tuple(high))
