"""An engine that trains nothing: its runs have the scores that a formula gives them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from rankwise.comparison import sweep as sweep_module
from rankwise.training.folder import RunFolder
from rankwise.training.records import RetentionRecord, RunRecord, TestResult, identity_of
from rankwise.training.settings.run import RunSettings
from tests.comparison import made_records as made

Formula = Callable[[RunSettings], float]


def best_at(rate: float) -> Formula:
    """Scores that fall with the distance from ``rate``, the same for every seed."""
    return lambda settings: 0.9 - 0.1 * abs(math.log10(settings.training.learning_rate / rate))


@dataclass
class MadeUpEngine:
    """Answers at once, and leaves the records that a run would leave.

    Attributes:
        score: The score on validation; None: the run fails.
        performed: The settings of the runs that it was asked for.
        scored: Those that it was asked to score on test.
        measured: Those whose retention it was asked for.
    """

    score: Callable[[RunSettings], float | None]
    performed: list[RunSettings] = field(default_factory=list)
    scored: list[RunSettings] = field(default_factory=list)
    measured: list[RunSettings] = field(default_factory=list)

    def run(self, function, calls):
        for settings, output in calls:
            if function is sweep_module._score:
                self.scored.append(settings)
                result = self._result(settings)
                result.write(RunFolder.below(output, settings.name).test)
                yield result
            elif function is sweep_module._retain:
                self.measured.append(settings)
                lost = RetentionRecord(
                    run=settings.name, measure="made up", before=0.9, after=0.8, forgetting=0.1
                )
                lost.write(RunFolder.below(output, settings.name).retention)
                yield lost
            else:
                self.performed += settings
                yield [self._recorded(each, output) for each in settings]

    def _recorded(self, settings: RunSettings, output):
        record = self._record(settings)
        record.write(RunFolder.below(output, settings.name).record)
        return record

    def _record(self, settings: RunSettings):
        identity, score = identity_of(settings.method), self.score(settings)
        at = {"rate": settings.training.learning_rate, "seed": settings.seed}
        known = {"run": settings.name, "settings": settings.model_dump(mode="json")}
        if score is None:
            return made.failed_run(identity, **at).model_copy(update=known)
        return made.run(identity, score, **at).model_copy(update=known)

    def _result(self, settings: RunSettings) -> TestResult:
        score = self.score(settings)
        assert score is not None
        return TestResult(run=settings.name, score_test=score, scores={"accuracy": score})


class Nobody:
    """A watcher that remembers what it was told."""

    def __init__(self) -> None:
        self.planned, self.records, self.widenings = 0, [], []

    def plan(self, runs):
        self.planned += runs

    def done(self, record: RunRecord):
        self.records.append(record)

    def widened(self, method: str, rate: float):
        self.widenings.append((method, rate))
