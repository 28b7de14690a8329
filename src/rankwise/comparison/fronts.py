"""Pareto fronts: the methods that no other beats at as low a cost, for each thing that costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rankwise.comparison.records import SummaryRow
from rankwise.training.records import MethodIdentity

Cost = Callable[[SummaryRow], float | None]

SAME = 0.05
"""The share by which costs differ at least, or they tell no methods apart."""


def run_seconds(row: SummaryRow) -> float | None:
    """Return what a run takes: its initialization, and its training."""
    if row.init_seconds is None or row.train_seconds is None:
        return None
    return row.init_seconds + row.train_seconds


COSTS: dict[str, Cost] = {
    "trainable_parameters": lambda row: row.trainable_parameters,
    "run_seconds": run_seconds,
    "peak_memory_bytes": lambda row: row.peak_memory_bytes or None,
    "forgetting_mean": lambda row: row.forgetting_mean,
}
"""What is counted as a cost, by name; less is better."""


def pareto_front(rows: Sequence[SummaryRow], cost: Cost) -> list[SummaryRow]:
    """Select the rows that no other beats at as low a cost with as high a score.

    Returns:
        The rows by rising cost, hence by rising score.
    """
    placed = [
        (spent, row.score_mean, row)
        for row in rows
        if row.score_mean is not None and (spent := cost(row)) is not None
    ]
    front = [
        (spent, row)
        for spent, score, row in placed
        if not any(
            other <= spent and higher >= score and (other < spent or higher > score)
            for other, higher, _ in placed
        )
    ]
    return [row for _, row in sorted(front, key=lambda each: each[0])]


def tells_apart(rows: Sequence[SummaryRow], cost: Cost) -> bool:
    """Say whether the rows that have a score differ in a cost by more than 5 %.

    Memory, for one, is that of the worker process where there is no accelerator: with small models
    nearly all of it is the same for every method.
    """
    spent = [value for row in rows if row.is_scored and (value := cost(row)) is not None]
    return bool(spent) and max(spent) - min(spent) > SAME * max(map(abs, spent))


def pareto_fronts(rows: Sequence[SummaryRow]) -> dict[str, tuple[MethodIdentity, ...]]:
    """Return the front of each cost that tells the rows apart, by the cost's name."""
    return {
        name: tuple(row.identity for row in pareto_front(rows, cost))
        for name, cost in COSTS.items()
        if tells_apart(rows, cost)
    }
