"""How the scores of an ablation are spread: a box for each value that was tried."""

from __future__ import annotations

from statistics import median

import plotly.graph_objects as go

from rankwise.comparison.report.comparison import Comparison
from rankwise.pages.drawing import escaped, figure_of, span_of
from rankwise.pages.writing import listed
from rankwise.training.records import MethodIdentity, RunRecord


def spread_of(row: MethodIdentity, comparison: Comparison) -> list[float]:
    """Return the validation scores of every run of a row: all its learning rates and seeds."""
    done = [run for run in comparison.runs_of(row) if isinstance(run, RunRecord)]
    return sorted(run.score_validation for run in done)


def draw(comparison: Comparison, _view: str | None) -> go.Figure:
    """Draw validation score by row, as boxes with a point for each run."""
    colour_of = comparison.colours
    boxes, shown = [], []
    for row in comparison.rows:
        if scores := spread_of(row, comparison):
            shown += scores
            boxes.append(
                go.Box(
                    x=scores,
                    orientation="h",
                    name=escaped(row.name),
                    meta={"method": row.name, "role": "box"},
                    boxpoints="all",
                    jitter=0.4,
                    pointpos=0,
                    line={"color": colour_of[row.name], "width": 1.5},
                    marker={"size": 6, "opacity": 0.7},
                    fillcolor="rgba(0,0,0,0)",
                )
            )
    axis = {"title": {"text": f"validation {comparison.metric}"}, "range": span_of(shown)}
    title = " × ".join(comparison.summary.protocol.varied)
    figure = figure_of(boxes, x_axis=axis, y_title=title, span=(0, 1))
    return figure.update_layout(
        margin={"r": 24},
        height=90 + 44 * len(boxes),
        # From top to bottom in the order of the values, with room for their names.
        yaxis={"type": "category", "range": [len(boxes) - 0.5, -0.5], "automargin": True},
    )


def tell(comparison: Comparison, _view: str | None) -> str:
    """Say the median and the ends of each box."""
    return listed(
        [
            f"{row.name}: median {median(scores):.3f}, {scores[0]:.3f} to {scores[-1]:.3f} "
            f"in {len(scores)} runs"
            for row in comparison.rows
            if (scores := spread_of(row, comparison))
        ]
    )
