"""Each method against the baseline: how much better, how much sooner, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rankwise.comparison.analysis.choice import MethodSweep
from rankwise.comparison.analysis.significance import Difference, differences
from rankwise.comparison.analysis.statistics import Crossed, Interval
from rankwise.comparison.records import SummaryRow
from rankwise.training.records import RunRecord, TestResult


@dataclass(frozen=True)
class Scored:
    """The rows of a comparison, with the runs and the predictions that they rest on.

    ``looks`` is how often the comparison is looked at, with more seeds each time.
    """

    rows: Sequence[SummaryRow]
    sweeps: Sequence[MethodSweep]
    tests: Mapping[str, TestResult]
    baseline: str
    looks: int = 1

    def differences(self, pairs: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        """Return the fields of a row that hold its difference from another, for each pair.

        The pairs, by position, are a group: they share the error.
        """
        tables = [self._crossed(*pair) for pair in pairs]
        found = differences(
            [self._paired(*pair) for pair in pairs],
            least_errors=[table.least_error if table else 0.0 for table in tables],
            looks=self.looks,
        )
        return [
            _fields(difference, table and table.interval(confidence=1 - difference.error))
            for difference, table in zip(found, tables, strict=True)
        ]

    def _paired(self, row: int, base: int) -> list[float]:
        pairs = zip(self.rows[row].scores, self.rows[base].scores, strict=True)
        return [score - other for score, other in pairs]

    def _crossed(self, row: int, base: int) -> Crossed | None:
        """Return the differences of each seed on each test row; None where rows cannot be paired.

        They can be if the metric is a mean over rows, and if every seed has the same rows.
        """
        runs = [*self.sweeps[row].best_runs(), *self.sweeps[base].best_runs()]
        answers = [self.tests[run.run] for run in runs]
        if runs[0].metric != "accuracy" or not all(each.labels for each in answers):
            return None
        if any(each.labels != answers[0].labels for each in answers):
            return None
        correct = [
            [float(said == right) for said, right in zip(each.predictions, each.labels)]
            for each in answers
        ]
        half = len(runs) // 2
        return Crossed.of(correct[:half], correct[half:])


def contrasted(scored: Scored) -> list[SummaryRow]:
    """Return the rows measured against the baseline of their budget.

    A row whose budget has none is measured against the one nearest in trained parameters. The
    methods of a budget are a group.
    """
    rows, bases = scored.rows, _bases(scored.rows, scored.baseline)
    measured = {
        i: _until(scored.sweeps[i].best_runs(), rows[i], rows[base].score_validation)
        for i, base in bases.items()
    }
    compared = [i for i in bases if rows[i].name != scored.baseline]
    for budget in dict.fromkeys(rows[i].budget for i in compared):
        group = [i for i in compared if rows[i].budget == budget]
        found = scored.differences([(i, bases[i]) for i in group])
        for i, fields in zip(group, found, strict=True):
            measured[i] |= fields
    return [row.model_copy(update=measured.get(i, {})) for i, row in enumerate(rows)]


def _fields(difference: Difference, over_rows: Interval | None) -> dict[str, Any]:
    return {
        **bounds_of("difference", difference.interval),
        **bounds_of("difference_rows", over_rows),
        "p_value": difference.p_value,
        "permutation_p_value": difference.permutation_p_value,
        "effect_size": difference.effect_size,
        "detectable_difference": difference.detectable,
        "seeds_needed": difference.seeds_needed,
    }


def bounds_of(quantity: str, interval: Interval | None) -> dict[str, float | None]:
    """Return the fields of a row that hold an interval, ``QUANTITY_mean`` and so on."""
    if interval is None:
        return {}
    return {
        f"{quantity}_mean": interval.mean,
        f"{quantity}_low": interval.low,
        f"{quantity}_high": interval.high,
    }


def _bases(rows: Sequence[SummaryRow], baseline: str) -> dict[int, int]:
    """Return, for each row that was scored, which row is its baseline."""
    scored = [i for i, row in enumerate(rows) if row.is_scored]
    bases = [i for i in scored if rows[i].name == baseline]
    found = {}
    for i in scored:
        same = [base for base in bases if rows[base].budget == rows[i].budget]
        if same or bases:
            found[i] = min(same or bases, key=lambda base: _distance(rows[base], rows[i]))
    return found


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
