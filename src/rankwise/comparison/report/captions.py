"""The charts in words, for readers who cannot see them and for those who want the numbers."""

from __future__ import annotations

from typing import Any

from rankwise.comparison.report import series
from rankwise.comparison.report.series import Row, Run

NOTHING = "There is nothing to draw."


def learning_curves(summary: dict[str, Any], runs: list[Run], view: str | None) -> str:
    """Rank the rows of a view by the mean validation score of their last evaluation."""
    ends = []
    for row in _scored(summary, view):
        points = series.learning_curve(row, runs).points
        if points:
            ends.append((points[-1][1], series.label(row)))
    ranked = sorted(ends, reverse=True)
    return _listed("Last evaluation, highest first", [f"{name}: {end:.3f}" for end, name in ranked])


def score_by_parameters(summary: dict[str, Any]) -> str:
    """List the Pareto front with what each of its rows costs and scores."""
    front = [
        f"{series.label(row)}: {row['score_mean']:.3f} with {row['trainable_parameters']:,}"
        for row in series.pareto_front(summary["methods"])
    ]
    return _listed("Pareto front, from the fewest parameters to the most", front)


def score_by_learning_rate(summary: dict[str, Any], runs: list[Run], view: str | None) -> str:
    """Rank the rows of a view by what the worst learning rate costs against the best."""
    falls = []
    for row in _scored(summary, view):
        sweep = series.learning_rate_sweep(row, runs)
        scores = [score for _, score in sweep.points]
        if scores:
            failed = len(sweep.x) - len(scores)
            aside = f" (runs failed at {failed} more)" if failed else ""
            falls.append((max(scores) - min(scores), series.label(row), aside))
    ranked = [f"{name}: {fall:.3f}{aside}" for fall, name, aside in sorted(falls)]
    return _listed("Fall from the best to the worst learning rate, smallest first", ranked)


def strength(summary: dict[str, Any], runs: list[Run], view: str | None) -> str:
    """Rank the rows of a view by how strong the change is in the end."""
    return _listed("In the end, strongest first", _diagnostic(summary, runs, view, "strength", -1))


def followed(summary: dict[str, Any], runs: list[Run], view: str | None) -> str:
    """Rank the rows of a view by the share of the gradient that can be followed at the start."""
    return _listed("Before the first step", _diagnostic(summary, runs, view, "followed", 0))


def batch_loss(summary: dict[str, Any], runs: list[Run], view: str | None) -> str:
    """Rank the rows of a view by the loss at the last of the first steps."""
    return _listed("After them, highest first", _diagnostic(summary, runs, view, "batch_loss", -1))


def _diagnostic(
    summary: dict[str, Any], runs: list[Run], view: str | None, key: str, position: int
) -> list[str]:
    found = [
        (seen.points[position][1], series.label(row))
        for row in _scored(summary, view)
        if (seen := series.diagnostic(row, runs, key)).points
    ]
    return [f"{name}: {value:.3f}" for value, name in sorted(found, reverse=True)]


def _scored(summary: dict[str, Any], view: str | None) -> list[Row]:
    return [row for row in series.rows_in_view(summary["methods"], view) if series.is_scored(row)]


def _listed(opening: str, items: list[str]) -> str:
    return f"{opening}. {'; '.join(items)}." if items else NOTHING
