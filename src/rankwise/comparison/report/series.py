"""What the report's pictures and sentences are made of: records in, plain series of numbers out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rankwise.comparison.records import SummaryRow
from rankwise.comparison.report.comparison import Comparison
from rankwise.training.records import DiagnosticPoint, RunRecord

Measure = Callable[[DiagnosticPoint], float | None]
"""Reads one quantity from what was measured while a run trained."""


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


def learning_curve(row: SummaryRow, comparison: Comparison) -> Series:
    """Average the validation scores of the chosen runs at the steps where each has one."""
    curves = [
        {point.step: point.validation_score for point in run.curve}
        for run in comparison.chosen_runs(row)
    ]
    return _at_shared_steps(curves)


def diagnostic(row: SummaryRow, comparison: Comparison, measure: Measure) -> Series:
    """Average what was measured while the chosen runs trained, where each has it."""
    measured = [
        {point.step: value for point in run.diagnostics if (value := measure(point)) is not None}
        for run in comparison.chosen_runs(row)
    ]
    return _at_shared_steps(measured)


def learning_rate_sweep(row: SummaryRow, comparison: Comparison) -> Series:
    """Average the validation scores at every learning rate; a failed run leaves a gap there."""
    scores: dict[float, list[float | None]] = {}
    for run in sorted(comparison.rate_runs(row), key=lambda run: run.learning_rate):
        score = run.score_validation if isinstance(run, RunRecord) else None
        scores.setdefault(run.learning_rate, []).append(score)
    return _across_seeds(scores)


def folds_within(row: SummaryRow, comparison: Comparison, curve: Series) -> list[float]:
    """List the steps at which the chosen runs folded their chain, inside the curve."""
    steps = {step for run in comparison.chosen_runs(row) for step in run.folds}
    return [step for step in sorted(steps) if curve.x and curve.x[0] <= step <= curve.x[-1]]


def _at_shared_steps(by_step: Sequence[Mapping[int, float]]) -> Series:
    steps = sorted(set.intersection(*map(set, by_step))) if by_step else []
    return _across_seeds({step: [each[step] for each in by_step] for step in steps})


def _across_seeds(scores: Mapping[float, Sequence[float | None]]) -> Series:
    points = []
    for x, values in scores.items():
        present = [value for value in values if value is not None]
        if len(present) == len(values):
            points.append((x, statistics.fmean(present), min(present), max(present)))
        else:
            points.append((x, None, None, None))
    columns = zip(*points) if points else ((), (), (), ())
    return Series(*map(tuple, columns))
