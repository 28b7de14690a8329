"""The picture of federations: validation score over the bytes that clients have sent and received.

One HTML file with everything in it, from which no request leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import plotly.graph_objects as go

from rankwise.core.records import write_text
from rankwise.federated.table import split_name, strategy_names
from rankwise.training.records import FederationRecord

COLOURS = ("#5A60E6", "#C12F89", "#006249", "#853900", "#A78E11", "#1442BE")
_AXIS = {"type": "log", "tickformat": "~s", "dtick": "D2"}


def write_plot(records: Sequence[FederationRecord], path: Path) -> None:
    """Write the picture of ``records``."""
    write_text(path, figure_of(records).to_html(include_plotlyjs=True))


def figure_of(records: Sequence[FederationRecord]) -> go.Figure:
    """Draw a line a method, a point a round; the axis of bytes is logarithmic."""
    traces = []
    for position, (name, record) in enumerate(zip(strategy_names(records), records, strict=True)):
        sent = accumulate(each.bytes_up + each.bytes_down for each in record.rounds)
        points = [(x, each.score) for x, each in zip(sent, record.rounds, strict=True) if x > 0]
        traces.append(
            go.Scatter(
                name=name,
                x=[x for x, _ in points],
                y=[y for _, y in points],
                mode="lines+markers",
                line={"color": COLOURS[position % len(COLOURS)], "width": 2},
                marker={"size": 5},
                hovertemplate="%{y:.3f} after %{x:,} bytes",
            )
        )
    federated, metric = records[0].plan.federated, records[0].metric
    title = f"{federated.clients} clients, split {split_name(federated)}"
    return go.Figure(
        traces,
        layout={
            "template": "none",
            "title": {"text": title, "x": 0.02},
            "font": {"family": "system-ui, sans-serif", "size": 13},
            "xaxis": {"title": {"text": "bytes up and down, all clients"}} | _AXIS,
            "yaxis": {"title": {"text": f"validation {metric}"}},
            "legend": {"x": 0.98, "xanchor": "right", "y": 0.05, "yanchor": "bottom"},
        },
    )
