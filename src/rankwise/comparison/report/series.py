"""What the report's pictures and sentences are made of: records in, plain series of numbers out.

A method row of the summary is known by its name, r, side and budget; a run belongs to the row whose
four it carries. Only finite numbers count: a score that is ``None`` or NaN is absent, never zero.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any, TypeGuard

Row = dict[str, Any]
"""One entry of ``summary["methods"]``."""
Run = dict[str, Any]
"""The record of one run."""


@dataclass(frozen=True)
class Series:
    """Scores along an axis: the mean over seeds with the lowest and the highest of them.

    A point is ``None`` in all three where a seed is missing: a mean over survivors would flatter.
    """

    x: tuple[float, ...]
    mean: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]

    @property
    def points(self) -> list[tuple[float, float]]:
        """The points that have a mean."""
        return [(x, mean) for x, mean in zip(self.x, self.mean) if mean is not None]


def is_number(value: object) -> TypeGuard[float]:
    """Say whether ``value`` is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_scored(row: Row) -> bool:
    """Say whether the row finished and has a test score."""
    return row["status"] == "ok" and is_number(row["score_mean"])


def label(row: Row) -> str:
    """Name a row in full: ``rac-lora r=2, left``."""
    rank = "" if row.get("r") is None else f" r={row['r']}"
    side = "" if row.get("side") is None else f", {row['side']}"
    return f"{row['name']}{rank}{side}"


def metric(runs: list[Run]) -> str:
    """The name of the metric; the runs of one comparison share it."""
    return next((run["metric"] for run in runs if run.get("metric")), "score")


def budget_of(row: Row) -> str:
    """The budget of a row as text, whatever type the record gave it."""
    return str(row["budget"])


def budgets(rows: list[Row]) -> list[str]:
    """List the budgets in their order of appearance."""
    return list(dict.fromkeys(budget_of(row) for row in rows))


def views(rows: list[Row]) -> list[str]:
    """List the budgets that hold a contest: at least two rows."""
    counted = [budget_of(row) for row in rows]
    return [budget for budget in budgets(rows) if counted.count(budget) > 1]


def rows_in_view(rows: list[Row], view: str | None) -> list[Row]:
    """Select the rows of one budget, and with them every row that is alone in its own.

    A budget with one row (full fine-tuning, as a rule) has no contest of its own, so it serves as
    a reference beside each of the others.
    """
    contests = views(rows)
    return [row for row in rows if budget_of(row) == view or budget_of(row) not in contests]


def best_of_budget(rows: list[Row], budget: str) -> Row | None:
    """Find the scored row with the highest mean; ``None`` where fewer than two can be compared."""
    scored = [row for row in rows if budget_of(row) == budget and is_scored(row)]
    return max(scored, key=lambda row: row["score_mean"]) if len(scored) > 1 else None


def pareto_front(rows: list[Row]) -> list[Row]:
    """Select the scored rows that no other beats with as few parameters and as high a score.

    Returns:
        The rows by rising number of trainable parameters, hence by rising score.
    """
    scored = [row for row in rows if is_scored(row) and is_number(row["trainable_parameters"])]
    front = [row for row in scored if not any(_dominates(other, row) for other in scored)]
    return sorted(front, key=lambda row: row["trainable_parameters"])


def _dominates(other: Row, row: Row) -> bool:
    fewer = row["trainable_parameters"] - other["trainable_parameters"]
    higher = other["score_mean"] - row["score_mean"]
    return fewer >= 0 and higher >= 0 and (fewer > 0 or higher > 0)


def runs_of(row: Row, runs: list[Run]) -> list[Run]:
    """Select the runs of a row, all learning rates and seeds, failed ones included."""
    key = _identity(row)
    return [run for run in runs if _identity(run["method"]) == key]


def chosen_runs(row: Row, runs: list[Run]) -> list[Run]:
    """Select the finished runs of a row at the learning rate that was chosen for it."""
    return [
        run
        for run in runs_of(row, runs)
        if run["status"] == "done" and run["learning_rate"] == row["learning_rate"]
    ]


def learning_curve(row: Row, runs: list[Run]) -> Series:
    """Average the validation scores of the chosen runs at the steps where each has one."""
    curves = [
        {
            point["step"]: point["validation_score"]
            for point in run["curve"]
            if is_number(point.get("validation_score"))
        }
        for run in chosen_runs(row, runs)
    ]
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    return _across_seeds({step: [curve[step] for curve in curves] for step in steps})


def diagnostic(row: Row, runs: list[Run], key: str) -> Series:
    """Average the ``strength`` or the share ``followed`` of the change over the chosen runs."""
    seen = [
        {
            point["step"]: point[key]
            for point in run.get("diagnostics") or ()
            if is_number(point.get(key))
        }
        for run in chosen_runs(row, runs)
    ]
    steps = sorted(set.intersection(*map(set, seen))) if seen else []
    return _across_seeds({step: [each[step] for each in seen] for step in steps})


def learning_rate_sweep(row: Row, runs: list[Run]) -> Series:
    """Average the validation scores at every learning rate; a failed run leaves a gap there."""
    scores: dict[float, list[float | None]] = {}
    for run in sorted(runs_of(row, runs), key=lambda run: run["learning_rate"]):
        score = run.get("score_validation")
        finished = run["status"] == "done" and is_number(score)
        scores.setdefault(run["learning_rate"], []).append(score if finished else None)
    return _across_seeds(scores)


def folds_within(row: Row, runs: list[Run], curve: Series) -> list[float]:
    """List the steps at which the chosen runs folded their chain, inside the curve."""
    steps = {step for run in chosen_runs(row, runs) for step in run.get("folds") or ()}
    return [step for step in sorted(steps) if curve.x and curve.x[0] <= step <= curve.x[-1]]


def _identity(method: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(method.get(key) for key in ("name", "r", "side", "budget"))


def _across_seeds(scores: dict[float, list[float | None]]) -> Series:
    points = []
    for x, values in scores.items():
        present = [value for value in values if value is not None]
        if len(present) == len(values):
            points.append((x, statistics.fmean(present), min(present), max(present)))
        else:
            points.append((x, None, None, None))
    columns = zip(*points) if points else ((), (), (), ())
    return Series(*map(tuple, columns))
