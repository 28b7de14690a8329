"""Each method against the baseline: how much better, how much sooner, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rankwise.comparison.analysis.choice import MethodSweep
from rankwise.comparison.analysis.statistics import (
    Interval,
    crossed_difference,
    paired_difference,
)
from rankwise.training.records import RunRecord, SummaryRow, TestResult


def contrasted(
    rows: Sequence[SummaryRow],
    sweeps: Sequence[MethodSweep],
    tests: Mapping[str, TestResult],
    *,
    baseline: str,
) -> list[SummaryRow]:
    """Return ``rows`` measured against the baseline of their budget.

    A row whose budget has none is measured against the one nearest in trained parameters.
    """
    scored = [i for i, row in enumerate(rows) if row.is_scored]
    bases = [i for i in scored if rows[i].name == baseline]
    peers = {
        budget: sum(rows[i].budget == budget for i in scored if i not in bases)
        for budget in {row.budget for row in rows}
    }
    found = list(rows)
    for i in scored:
        same = [base for base in bases if rows[base].budget == rows[i].budget]
        base = min(same or bases, key=lambda base: _distance(rows[base], rows[i]), default=None)
        if base is None:
            continue
        measured = _until(sweeps[i].best_runs(), rows[i], rows[base].score_validation)
        if i not in bases:
            comparisons = peers[rows[i].budget]
            difference = paired_difference(
                rows[i].scores, rows[base].scores, comparisons=comparisons
            )
            over_rows = _over_rows(sweeps[i], sweeps[base], tests, comparisons=comparisons)
            measured |= bounds("difference", difference) | bounds("difference_rows", over_rows)
        found[i] = rows[i].model_copy(update=measured)
    return found


def bounds(quantity: str, interval: Interval | None) -> dict[str, float | None]:
    """Return the fields of a row that hold the mean and the interval of a quantity."""
    if interval is None:
        return {}
    return {
        f"{quantity}_mean": interval.mean,
        f"{quantity}_low": interval.low,
        f"{quantity}_high": interval.high,
    }


def _distance(base: SummaryRow, row: SummaryRow) -> float:
    assert base.trainable_parameters is not None
    assert row.trainable_parameters is not None
    return abs(math.log(base.trainable_parameters / row.trainable_parameters))


def _until(runs: Sequence[RunRecord], row: SummaryRow, score: float | None) -> dict[str, Any]:
    """Return the steps, samples and seconds until the mean validation curve reaches ``score``.

    The seconds are those of the initialization and of the share of training that the steps are.
    """
    curve = _mean_curve(runs)
    step = next((step for step, mean in curve if score is not None and mean >= score), None)
    if step is None or row.init_seconds is None or row.train_seconds is None:
        return {}
    last = max(curve[-1][0], 1)
    return {
        "steps_to_baseline": step,
        "samples_to_baseline": step * _samples_a_step(runs[0]),
        "seconds_to_baseline": row.init_seconds + row.train_seconds * step / last,
    }


def _samples_a_step(run: RunRecord) -> int:
    training = run.run_settings().training
    return training.batch_size * training.accumulation_steps


def _mean_curve(runs: Sequence[RunRecord]) -> list[tuple[int, float]]:
    """Return the steps that all runs reached, with the mean validation score there."""
    return [
        (points[0].step, fmean(point.validation_score for point in points))
        for points in zip(*(run.curve for run in runs), strict=False)
    ]


def _over_rows(
    method: MethodSweep,
    base: MethodSweep,
    tests: Mapping[str, TestResult],
    *,
    comparisons: int,
) -> Interval | None:
    """Return the difference over seeds and test rows; None where rows cannot be paired.

    They can be if the metric is a mean over rows, and if every seed has the same rows.
    """
    runs = [*method.best_runs(), *base.best_runs()]
    answers = [tests[run.run] for run in runs]
    if runs[0].metric != "accuracy" or not all(each.labels for each in answers):
        return None
    if any(each.labels != answers[0].labels for each in answers):
        return None
    correct = [
        [float(said == right) for said, right in zip(each.predictions, each.labels)]
        for each in answers
    ]
    half = len(method.best_runs())
    return crossed_difference(correct[:half], correct[half:], comparisons=comparisons)
