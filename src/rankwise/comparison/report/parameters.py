"""Test score over trainable parameters, and the Pareto front; a budget keeps its marker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle

import plotly.graph_objects as go

from rankwise.comparison.records import SummaryRow
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.drawing import Stroke, strokes_of
from rankwise.comparison.report.series import Series
from rankwise.pages.drawing import escaped, figure_of, span_of
from rankwise.pages.palette import MUTED, PAPER
from rankwise.pages.writing import listed

MARKERS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "cross": "✚"}


def markers(comparison: Comparison) -> dict[str, str]:
    """Give every budget its marker, in order of appearance."""
    return dict(zip(comparison.budgets, cycle(MARKERS)))


def marker_key(comparison: Comparison) -> str:
    """Write which marker is which budget's."""
    symbols = markers(comparison).items()
    return ", ".join(f"{MARKERS[symbol]}\u00a0{budget}" for budget, symbol in symbols)


def draw(comparison: Comparison, _view: str | None) -> go.Figure:
    """Draw test score, with its interval, over trainable parameters, and the Pareto front."""
    front = pareto_front(comparison.scored)
    strokes = strokes_of(comparison, _test_score)
    symbols = markers(comparison)
    named = {row.identity for row in _roomy(front)}
    ends = _logarithmic([stroke.series.x[0] for stroke in strokes])
    traces = [_front(front)]
    traces += [_point(stroke, symbols[stroke.row.budget]) for stroke in strokes]
    traces += [_label(stroke, ends) for stroke in strokes if stroke.row.identity in named]
    span = span_of([s for k in strokes for s in (*k.series.low, *k.series.mean, *k.series.high)])
    axis = {
        "title": {"text": "trainable parameters"},
        "type": "log",
        "tickformat": "~s",
        "dtick": "D2",
        "range": ends,
    }
    figure = figure_of(traces, x_axis=axis, y_title=f"test {comparison.metric}", span=span)
    return figure.update_layout(margin={"r": 24})


def tell(comparison: Comparison, _view: str | None) -> str:
    """List the Pareto front with what each of its rows costs and scores."""
    front = [
        f"{row.label}: {row.score_mean:.3f} with {row.trainable_parameters:,}"
        for row in pareto_front(comparison.scored)
    ]
    return listed(front, opening="Pareto front, from the fewest parameters to the most")


def pareto_front(rows: Sequence[SummaryRow]) -> list[SummaryRow]:
    """Select the rows that no other beats with as few parameters and as high a score.

    Returns:
        The rows by rising number of trainable parameters, hence by rising score.
    """
    placed = [
        (row.trainable_parameters, row.score_mean, row)
        for row in rows
        if row.trainable_parameters is not None and row.score_mean is not None
    ]
    front = [
        (count, row)
        for count, score, row in placed
        if not any(
            other <= count and higher >= score and (other < count or higher > score)
            for other, higher, _ in placed
        )
    ]
    return [row for _, row in sorted(front, key=lambda each: each[0])]


def _test_score(row: SummaryRow) -> Series:
    """The score as a series of one point; of none where a logarithmic axis has no place for it."""
    if not row.trainable_parameters:
        return Series((), (), (), ())
    return Series(
        (row.trainable_parameters,), (row.score_mean,), (row.score_low,), (row.score_high,)
    )


def _point(stroke: Stroke, symbol: str) -> go.Scatter:
    (mean,), (low,), (high,) = stroke.series.mean, stroke.series.low, stroke.series.high
    assert mean is not None
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


def _label(stroke: Stroke, ends: list[float]) -> go.Scatter:
    (high,) = stroke.series.high
    at = (math.log10(stroke.series.x[0]) - ends[0]) / (ends[1] - ends[0])
    # To the left of a point near the edge there is no room.
    is_left = at < 0.35
    name, space = escaped(stroke.row.label), "&nbsp;&nbsp;"
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


def _front(front: Sequence[SummaryRow]) -> go.Scatter:
    return go.Scatter(
        name="Pareto front",
        meta={"method": None, "role": "front"},
        x=[row.trainable_parameters for row in front],
        y=[row.score_mean for row in front],
        mode="lines",
        line={"color": MUTED, "width": 1.5, "dash": "dot", "shape": "hv"},
        hoverinfo="skip",
    )


def _roomy(front: Sequence[SummaryRow]) -> list[SummaryRow]:
    """The rows of the front that have room for a name: of close neighbours only the best."""
    named: list[SummaryRow] = []
    for row in reversed(front):
        if not named or _count(row) * 1.3 < _count(named[-1]):
            named.append(row)
    return named


def _count(row: SummaryRow) -> int:
    return row.trainable_parameters or 0


def _logarithmic(counts: Sequence[float]) -> list[float]:
    """The range of a logarithmic axis with some air at both ends."""
    return [math.log10(min(counts, default=1) / 1.6), math.log10(max(counts, default=1) * 1.2)]
