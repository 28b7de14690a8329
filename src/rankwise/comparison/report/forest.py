"""Differences from the baseline with their intervals, one line a method: a forest plot."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from rankwise.comparison.records import SummaryRow
from rankwise.comparison.report.comparison import Comparison
from rankwise.pages.drawing import escaped, figure_of, trace_of
from rankwise.pages.palette import GRID, MUTED
from rankwise.pages.writing import listed, points

ROW_HEIGHT = 26


def rows_of(comparison: Comparison) -> list[tuple[str, list[SummaryRow]]]:
    """Return by budget the rows that have a difference with an interval, the best first."""
    rows = [row for row in comparison.scored if row.difference_low is not None]
    return [
        (budget, sorted(found, key=lambda row: -(row.difference_mean or 0.0)))
        for budget in comparison.budgets
        if (found := [row for row in rows if row.budget == budget])
    ]


def draw(comparison: Comparison, _view: str | None) -> go.Figure:
    """Draw all differences in points with their intervals, by budget; zero is the baseline.

    Filled: the difference is significant.
    """
    lines: list[tuple[str, SummaryRow | None]] = []
    for budget, rows in rows_of(comparison):
        lines += [(f"<b>{escaped(budget)}</b>", None)] if budget else []
        lines += [(escaped(row.label), row) for row in rows]
    shown = [row for _, row in lines if row is not None]
    low, high = _span(shown)
    axis = {
        "title": {"text": f"difference from {escaped(comparison.baseline)}, in points"},
        "range": [low, high],
        "showgrid": True,
        "gridcolor": GRID,
        "zeroline": True,
        "zerolinecolor": MUTED,
        "zerolinewidth": 2,
    }
    marks = [_mark(row, i, comparison) for i, (_, row) in enumerate(lines) if row is not None]
    figure = figure_of(marks, x_axis=axis, y_title="", span=(0, 1))
    return figure.update_layout(
        margin={"l": 24, "r": 24, "t": 12},
        height=84 + ROW_HEIGHT * max(len(lines), 1),
        yaxis={
            "range": [len(lines) - 0.4, -0.6],
            "tickvals": list(range(len(lines))),
            "ticktext": [f"{text}  " for text, _ in lines],
            "showgrid": False,
            "automargin": True,
        },
    )


def tell(comparison: Comparison, _view: str | None) -> str:
    """Say each difference with its interval, and whether it is significant."""
    return listed(
        [
            f"{row.label}{_aside(row)}: {points(row.difference_mean)} "
            f"({points(row.difference_low)} to {points(row.difference_high)})"
            + (", significant" if row.is_significant else "")
            for _, rows in rows_of(comparison)
            for row in rows
        ],
        opening=f"Differences from {comparison.baseline} in points",
    )


def _aside(row: SummaryRow) -> str:
    return "" if row.budget in ("", row.name) else f" ({row.budget})"


def _mark(row: SummaryRow, position: int, comparison: Comparison) -> go.Scatter:
    assert row.difference_mean is not None
    assert row.difference_low is not None
    assert row.difference_high is not None
    colour = comparison.colours[row.name]
    return trace_of(
        row.name,
        row.label,
        "difference",
        x=[100 * row.difference_mean],
        y=[position],
        mode="markers",
        marker={
            "color": colour,
            "size": 10,
            "symbol": "circle" if row.is_significant else "circle-open",
            "line": {"width": 2, "color": colour},
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [100 * (row.difference_high - row.difference_mean)],
            "arrayminus": [100 * (row.difference_mean - row.difference_low)],
            "color": colour,
            "thickness": 2,
            "width": 0,
        },
        hovertemplate=(
            f"{points(row.difference_mean)} points ({points(row.difference_low)} to "
            f"{points(row.difference_high)})"
        ),
    )


def _span(rows: Sequence[SummaryRow]) -> tuple[float, float]:
    ends = [100 * (end or 0.0) for row in rows for end in (row.difference_low, row.difference_high)]
    low, high = min([*ends, -1.0]), max([*ends, 1.0])
    air = 0.05 * (high - low)
    return math.floor(low - air), math.ceil(high + air)
