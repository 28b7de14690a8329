"""What charts have in common: their frame, the names at the ends of lines, and no markup in them.

Each trace carries ``meta = {"method": name or None, "role": ...}``, by which a page highlights a
method or drops the labels where there is no room.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from rankwise.pages.palette import GRID, MUTED

HEIGHT, LABEL_HEIGHT = 420, 17
MARGIN = {"l": 52, "r": 172, "t": 34, "b": 48}


@dataclass(frozen=True)
class End:
    """Where a line ends, and what is written there.

    Attributes:
        method: By which the line is highlighted.
        label: The name of the line in full.
        shown: What is written.
    """

    method: str
    label: str
    shown: str
    colour: str
    point: tuple[float, float]


def trace_of(method: str, label: str, role: str, **properties: Any) -> go.Scatter:
    """Make a trace of a method; ``role`` says what it shows."""
    return go.Scatter(name=escaped(label), meta={"method": method, "role": role}, **properties)


def line_of(
    name: str,
    points: Sequence[tuple[float, float]],
    *,
    colour: str,
    hover: str,
    is_marked: bool = True,
) -> go.Scatter:
    """Make a line through points, each marked unless there are too many."""
    return trace_of(
        name,
        name,
        "line",
        x=[x for x, _ in points],
        y=[y for _, y in points],
        mode="lines+markers" if is_marked else "lines",
        line={"color": colour, "width": 2},
        marker={"size": 5},
        hovertemplate=hover,
    )


def end_labels(ends: Sequence[End], *, x: float, span: tuple[float, float]) -> list[go.Scatter]:
    """Name each line at the right edge, spread so that no two names touch, with a thin leader."""
    plot_height = HEIGHT - MARGIN["t"] - MARGIN["b"]
    gap = (span[1] - span[0]) * LABEL_HEIGHT / plot_height
    heights = spread([end.point[1] for end in ends], gap=gap, ceiling=span[1])
    return [
        trace_of(
            end.method,
            end.label,
            "label",
            x=[end.point[0], x],
            y=[end.point[1], height],
            mode="lines+text",
            text=["", "&nbsp;" + escaped(end.shown)],
            textposition="middle right",
            textfont={"color": end.colour},
            line={"color": end.colour, "width": 0.75},
            cliponaxis=False,
            hoverinfo="skip",
        )
        for end, height in zip(ends, heights, strict=True)
    ]


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
