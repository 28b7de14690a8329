"""The charts of the page: what bytes buy, and the score by round."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import plotly.graph_objects as go

from rankwise.federated.report.reported import Reported, all_bytes
from rankwise.pages.chart import Chart
from rankwise.pages.drawing import End, end_labels, figure_of, line_of, span_of
from rankwise.pages.writing import listed, size
from rankwise.training.federation_records import FederationRecord

Points = list[tuple[float, float]]


def score_over_bytes(record: FederationRecord) -> Points:
    """Return the score after each round over the bytes sent until then; none where that is 0."""
    sent = accumulate(each.bytes_up + each.bytes_down for each in record.rounds)
    return [(x, each.score) for x, each in zip(sent, record.rounds, strict=True) if x > 0]


def score_by_round(record: FederationRecord) -> Points:
    """Return the score after each round."""
    return [(each.number, each.score) for each in record.rounds]


def _draw_over_bytes(reported: Reported, _view: str | None) -> go.Figure:
    lines = _lines(reported, score_over_bytes)
    last = max((x for points in lines.values() for x, _ in points), default=1.0)
    title = {"text": "bytes up and down, all clients"}
    axis = {"title": title, "type": "log", "tickformat": "~s", "dtick": "D2"}
    hover = "%{y:.3f} after %{x:,} bytes"
    return _figure(reported, lines, x_axis=axis, label_at=1.15 * last, hover=hover)


def _draw_by_round(reported: Reported, _view: str | None) -> go.Figure:
    lines = _lines(reported, score_by_round)
    last = max((x for points in lines.values() for x, _ in points), default=1.0)
    axis = {"title": {"text": "round"}, "range": [0, 1.03 * max(last, 1.0)]}
    hover = "%{y:.3f} after round %{x}"
    return _figure(reported, lines, x_axis=axis, label_at=1.03 * last, hover=hover)


def _lines(
    reported: Reported, points_of: Callable[[FederationRecord], Points]
) -> dict[str, Points]:
    lines = {name: points_of(record) for name, record in reported.named}
    return {name: points for name, points in lines.items() if points}


def _figure(
    reported: Reported,
    lines: dict[str, Points],
    *,
    x_axis: dict[str, Any],
    label_at: float,
    hover: str,
) -> go.Figure:
    span = span_of([score for points in lines.values() for _, score in points])
    colours = reported.colours
    traces = [
        line_of(name, points, colour=colours[name], hover=hover) for name, points in lines.items()
    ]
    ends = [End(name, name, name, colours[name], points[-1]) for name, points in lines.items()]
    traces += end_labels(ends, x=label_at, span=span)
    return figure_of(traces, x_axis=x_axis, y_title=f"validation {reported.metric}", span=span)


def _tell_over_bytes(reported: Reported, _view: str | None) -> str:
    ranked = sorted(reported.named, key=lambda each: all_bytes(each[1]))
    told = [
        f"{name}: {size(all_bytes(record))} for {record.score_validation:.3f}"
        for name, record in ranked
    ]
    return listed(told, opening="At the end, fewest bytes first")


def _tell_by_round(reported: Reported, _view: str | None) -> str:
    told = []
    for name, record in reported.named:
        best = max(record.rounds, key=lambda each: each.score)
        told.append(
            f"{name}: {record.rounds[0].score:.3f} before the first round, "
            f"{record.score_validation:.3f} at the end, highest {best.score:.3f} after round "
            f"{best.number}"
        )
    return listed(told)


CHARTS: tuple[Chart[Reported], ...] = (
    Chart(
        "score-by-bytes",
        "What bytes buy",
        lambda it: (
            f"Validation {it.metric} after each round over all bytes sent until then, on a "
            "logarithmic axis."
        ),
        draw=_draw_over_bytes,
        caption=_tell_over_bytes,
    ),
    Chart(
        "score-by-round",
        "Score by round",
        lambda it: (
            f"Validation {it.metric} of the server’s model after each round. Where clients are "
            "unlike, it swings from one round to the next."
        ),
        draw=_draw_by_round,
        caption=_tell_by_round,
    ),
)
