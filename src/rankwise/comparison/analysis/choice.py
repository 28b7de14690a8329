"""Choosing a method's settings, on validation and nothing else."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypeVar

from rankwise.comparison.analysis.race import Dropped, losers
from rankwise.training.records import FailedRun, RunRecord
from rankwise.training.settings.comparison import ComparedMethod
from rankwise.training.settings.grid import RATE, GridPoint, Value, read_point

Key = TypeVar("Key", bound=Hashable)


def best_of(runs: Mapping[Key, Sequence[RunRecord | FailedRun]]) -> Key | None:
    """Return the key whose runs have the highest mean validation score, or None if all failed.

    Equal scores are told apart by the lower mean validation loss. A key of which any run failed is
    out: its mean would be taken over the lucky seeds only.
    """
    finished = {key: found for key, each in runs.items() if (found := finished_of(each))}
    return max(finished, key=lambda key: _merit(finished[key]), default=None)


def finished_of(runs: Iterable[RunRecord | FailedRun]) -> list[RunRecord]:
    """Return the runs in the order of their seeds; none if any of them failed."""
    runs = list(runs)
    done = [run for run in runs if isinstance(run, RunRecord)]
    return sorted(done, key=lambda run: run.seed) if len(done) == len(runs) else []


def _merit(runs: Sequence[RunRecord]) -> tuple[float, float]:
    score = fmean(run.score_validation for run in runs)
    return score, -fmean(run.curve[-1].validation_loss for run in runs)


@dataclass
class MethodSweep:
    """One method of a comparison: the points of its grid, and the records of its runs so far.

    Attributes:
        method: What is swept.
        points: All that were tried.
        records: Of all runs.
        dropped: The points that left the race.
        chosen: The point that won it; None while it goes on.
    """

    method: ComparedMethod
    points: list[GridPoint]
    records: list[RunRecord | FailedRun] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    chosen: GridPoint | None = None

    @property
    def names(self) -> list[str]:
        """The settings that are swept beside the learning rate."""
        return [name for name, _ in self.points[0].others] if self.points else []

    def choose(self) -> GridPoint | None:
        """Keep the best point of the seeds so far; seeds that are added later do not change it."""
        self.chosen = self.best()
        return self.chosen

    def drop_losers(self, *, seeds: int) -> None:
        """Drop the points that can no longer win a race over ``seeds`` seeds.

        One of which a run failed is out already, and is dropped too.
        """
        runs = self._runs_at(self._in_race())
        scores = {
            point: {run.seed: run.score_validation for run in found}
            for point, each in runs.items()
            if (found := finished_of(each))
        }
        self.dropped += losers(scores, seeds=seeds)

    def racing(self, points: Iterable[GridPoint]) -> list[GridPoint]:
        """Return those of ``points`` that are in the race, and of which no run has failed."""
        out = {each.point for each in self.dropped}
        out |= {self._point_of(run) for run in self.failures()}
        return [point for point in points if point not in out]

    def best(self) -> GridPoint | None:
        """Return the point that was chosen, or else the best of those in the race."""
        points = self._in_race() if self.chosen is None else [self.chosen]
        return best_of(self._runs_at(points))

    def best_runs(self) -> list[RunRecord]:
        """Return the runs at the best point in the order of their seeds; none if all failed."""
        best = self.best()
        return [] if best is None else finished_of(self._runs_at([best])[best])

    def failures(self) -> list[FailedRun]:
        """Return the records of the runs that failed."""
        return [record for record in self.records if isinstance(record, FailedRun)]

    def tried(self, name: str, *, beside: GridPoint | None = None) -> list[Value]:
        """Return the values of a setting that were tried, ``beside`` a point's other settings."""
        points = [each for each in self.points if beside is None or _differ_in(each, beside, name)]
        return list(dict.fromkeys(value_at(point, name) for point in points))

    def _in_race(self) -> list[GridPoint]:
        out = {each.point for each in self.dropped}
        return [point for point in self.points if point not in out]

    def _runs_at(self, points: Sequence[GridPoint]) -> dict[GridPoint, list[RunRecord | FailedRun]]:
        found: dict[GridPoint, list[RunRecord | FailedRun]] = {point: [] for point in points}
        for record in self.records:
            if (point := self._point_of(record)) in found:
                found[point].append(record)
        return found

    def _point_of(self, record: RunRecord | FailedRun) -> GridPoint:
        if not self.names:
            return GridPoint(record.learning_rate)
        return read_point(record.settings, self.names)


def value_at(point: GridPoint, name: str) -> Value:
    """Return the value that the setting ``name`` has at a point."""
    return point.learning_rate if name == RATE else dict(point.others)[name]


def _differ_in(point: GridPoint, other: GridPoint, name: str) -> bool:
    """Say whether two points are one, or differ in the setting ``name`` alone."""
    names = (RATE, *(each for each, _ in point.others))
    return all(value_at(point, each) == value_at(other, each) for each in names if each != name)
