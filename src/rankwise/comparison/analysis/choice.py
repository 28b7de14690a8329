"""Choosing a method's learning rate, on validation and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from rankwise.training.records import FailedRun, RunRecord
from rankwise.training.settings.comparison import ComparedMethod


def finished_at(rate: float, records: Iterable[RunRecord | FailedRun]) -> list[RunRecord]:
    """Return the records at ``rate`` in the order of their seeds; none if any of them failed."""
    at_rate = [record for record in records if record.learning_rate == rate]
    done = [record for record in at_rate if isinstance(record, RunRecord)]
    return sorted(done, key=lambda record: record.seed) if len(done) == len(at_rate) else []


def best_rate(rates: Iterable[float], records: Sequence[RunRecord | FailedRun]) -> float | None:
    """Return the rate with the highest mean validation score over seeds, or None if all failed.

    Equal scores are told apart by the lower mean validation loss. A rate of which any seed failed
    is out: its mean would be taken over the lucky seeds only.
    """
    finished = {rate: finished_at(rate, records) for rate in rates}
    complete = [rate for rate, found in finished.items() if found]
    return max(complete, key=lambda rate: _merit(finished[rate]), default=None)


def _merit(records: Sequence[RunRecord]) -> tuple[float, float]:
    score = fmean(record.score_validation for record in records)
    return score, -fmean(record.curve[-1].validation_loss for record in records)


@dataclass
class MethodSweep:
    """One method of a comparison: the learning rates tried, and the records of its runs so far."""

    method: ComparedMethod
    rates: list[float]
    records: list[RunRecord | FailedRun] = field(default_factory=list)
    chosen: float | None = None

    def choose(self) -> float | None:
        """Keep the best rate of the seeds so far; seeds that are added later do not change it."""
        self.chosen = self.best()
        return self.chosen

    def best(self) -> float | None:
        """Return the rate that was chosen, or else :func:`best_rate` of those tried."""
        return best_rate(self.rates if self.chosen is None else [self.chosen], self.records)

    def best_runs(self) -> list[RunRecord]:
        """Return the runs at the best rate in the order of their seeds; none if all failed."""
        best = self.best()
        return [] if best is None else finished_at(best, self.records)

    def failures(self) -> list[FailedRun]:
        """Return the records of the runs that failed."""
        return [record for record in self.records if isinstance(record, FailedRun)]
