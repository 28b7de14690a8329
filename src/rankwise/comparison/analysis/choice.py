"""Choosing a method's learning rate, on validation and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from rankwise.training.settings.run import ComparedMethod

Record = dict[str, Any]


@dataclass
class MethodSweep:
    """One method of a comparison: the learning rates tried, and the records of its runs so far."""

    method: ComparedMethod
    rates: list[float]
    records: list[Record] = field(default_factory=list)
    settled: float | None = None

    def settle(self) -> float | None:
        """Keep the best rate of the seeds so far; seeds that are added later do not change it."""
        self.settled = self.best()
        return self.settled

    def best(self) -> float | None:
        """Return the rate with the highest mean validation score over seeds, or None if all failed.

        Equal scores are told apart by the lower mean validation loss. A rate of which any seed
        failed is out: its mean would be taken over the lucky seeds only.
        """
        rates = self.rates if self.settled is None else [self.settled]
        complete = [rate for rate in rates if self.of_rate(rate)]
        return max(complete, key=self._merit, default=None)

    def of_rate(self, rate: float) -> list[Record]:
        """Return the records at ``rate`` in the order of their seeds; none if any failed."""
        records = [record for record in self.records if record["learning_rate"] == rate]
        if any(record["status"] != "done" for record in records):
            return []
        return sorted(records, key=lambda record: record["seed"])

    def failures(self) -> list[Record]:
        """Return the records of the runs that failed."""
        return [record for record in self.records if record["status"] != "done"]

    def _merit(self, rate: float) -> tuple[float, float]:
        records = self.of_rate(rate)
        score = fmean(record["score_validation"] for record in records)
        return score, -fmean(record["curve"][-1]["validation_loss"] for record in records)
