"""How the scores of an ablation are spread: a box for each value that was tried."""

from __future__ import annotations

from statistics import median
from typing import Any

import plotly.graph_objects as go

from rankwise.comparison.report import series
from rankwise.comparison.report.drawing import escaped, figure_of, span_of
from rankwise.comparison.report.palette import colours
from rankwise.comparison.report.series import Row, Run


def spread_of(row: Row, runs: list[Run]) -> list[float]:
    """Return the validation scores of every run of a row: all its learning rates and seeds."""
    scores = (run.get("score_validation") for run in series.runs_of(row, runs))
    return sorted(score for score in scores if series.is_number(score))


def distribution(summary: dict[str, Any], runs: list[Run]) -> go.Figure:
    """Draw validation score by row, as boxes with a point for each run."""
    colour_of = colours(summary)
    boxes, shown = [], []
    for row in summary["methods"]:
        if scores := spread_of(row, runs):
            shown += scores
            boxes.append(
                go.Box(
                    x=scores,
                    orientation="h",
                    name=escaped(row["name"]),
                    meta={"method": row["name"], "role": "box"},
                    boxpoints="all",
                    jitter=0.4,
                    pointpos=0,
                    line={"color": colour_of[row["name"]], "width": 1.5},
                    marker={"size": 6, "opacity": 0.7},
                    fillcolor="rgba(0,0,0,0)",
                )
            )
    axis = {"title": {"text": f"validation {series.metric(runs)}"}, "range": span_of(shown)}
    title = " × ".join(summary["protocol"]["varied"])
    figure = figure_of(boxes, x_axis=axis, y_title=title, span=(0, 1))
    return figure.update_layout(
        margin={"r": 24},
        height=90 + 44 * len(boxes),
        # From top to bottom in the order of the values, with room for their names.
        yaxis={"type": "category", "range": [len(boxes) - 0.5, -0.5], "automargin": True},
    )


def told(summary: dict[str, Any], runs: list[Run]) -> str:
    """Say the median and the ends of each box."""
    parts = [
        f"{row['name']}: median {median(scores):.3f}, {scores[0]:.3f} to {scores[-1]:.3f} "
        f"in {len(scores)} runs"
        for row in summary["methods"]
        if (scores := spread_of(row, runs))
    ]
    return "; ".join(parts) + "." if parts else "There is nothing to draw."
