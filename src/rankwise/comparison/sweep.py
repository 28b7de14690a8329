"""A comparison from beginning to end: sweep, widen, choose on validation, read test once, sum up.

Every finished run is a record on disk, so an interrupted comparison resumes.
With other settings it is another run, in another folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rankwise.comparison.analysis.choice import MethodSweep
from rankwise.comparison.engines.protocol import Engine
from rankwise.comparison.grid import comparison_of, runs_of, widened
from rankwise.training.folder import RunFolder
from rankwise.training.recorded import finished_record, recorded_test
from rankwise.training.records import FailedRun, RunRecord, TestResult
from rankwise.training.settings.recipe import Recipe
from rankwise.training.settings.run import RunSettings


class Watcher(Protocol):
    """Somebody who is told how far a comparison is."""

    def plan(self, runs: int) -> None:
        """``runs`` more runs are to be done."""
        ...

    def done(self, record: RunRecord | FailedRun) -> None:
        """One more run is done, or was found done."""
        ...

    def widened(self, method: str, rate: float) -> None:
        """The grid of a method grows by ``rate``, because its best stood at an edge."""
        ...


def sweep(recipe: Recipe, output: Path, *, engine: Engine, watcher: Watcher) -> list[MethodSweep]:
    """Run what has no record yet, widening each method's grid while its best rate is at an edge."""
    comparison = comparison_of(recipe)
    runner = _Runner(recipe, output, engine, watcher)
    sweeps = [MethodSweep(method, []) for method in comparison.chosen_methods]
    swept = comparison.seeds[: comparison.sweep_seeds]
    fresh = [(method, list(comparison.learning_rates)) for method in sweeps]
    for left in reversed(range(comparison.widenings + 1)):
        for method, rates in fresh:
            method.rates += rates
        runner.run(fresh, seeds=swept)
        grown = [(each, widened(each.rates, best)) for each in sweeps if (best := each.best())]
        fresh = [(method, [rate]) for method, rate in grown if rate is not None]
        if not fresh or not left:
            break
        for each, (rate,) in fresh:
            watcher.widened(each.method.title, rate)
    chosen = [(method, [rate]) for method in sweeps if (rate := method.choose())]
    if left_out := comparison.seeds[len(swept) :]:
        runner.run(chosen, seeds=left_out)
    return sweeps


def read_test(sweeps: list[MethodSweep], output: Path, *, engine: Engine) -> dict[str, TestResult]:
    """Score on test the runs of each chosen rate, and no others; keyed by the run's name."""
    chosen = [run for method in sweeps for run in method.best_runs()]
    kept = {
        run.run: result
        for run in chosen
        if (result := recorded_test(RunFolder.below(output, run.run))) is not None
    }
    calls = [(run.run_settings(), output) for run in chosen if run.run not in kept]
    return kept | {result.run: result for result in engine.run(_score, calls)}


@dataclass(frozen=True)
class _Runner:
    """Performs the runs of a comparison that have no record yet."""

    recipe: Recipe
    output: Path
    engine: Engine
    watcher: Watcher

    def run(
        self, rates: Iterable[tuple[MethodSweep, list[float]]], *, seeds: Sequence[int]
    ) -> None:
        """Give each method the records of its rates, each with each seed."""
        runs = {
            settings.name: (settings, method)
            for method, rates_of_method in rates
            for settings in runs_of(self.recipe, method.method, rates=rates_of_method, seeds=seeds)
        }
        self.watcher.plan(len(runs))
        for record in self._records({name: settings for name, (settings, _) in runs.items()}):
            runs[record.run][1].records.append(record)
            self.watcher.done(record)

    def _records(self, runs: Mapping[str, RunSettings]) -> Iterator[RunRecord | FailedRun]:
        """Yield what is recorded, then perform the rest; what failed before is tried again."""
        left = []
        for name, settings in runs.items():
            record = finished_record(RunFolder.below(self.output, name))
            if record is None:
                left.append((settings, self.output))
            else:
                yield record
        if left:
            # Before any worker needs it, so that no two make it at once.
            _make_base_model(self.recipe.run(), self.output)
            yield from self.engine.run(_perform, left)


# What trains and scores is loaded where it is used, in a worker as a rule: a page of records, and
# whatever else imports this file, does without torch.


def _make_base_model(settings: RunSettings, output: Path) -> None:
    from rankwise.training.build import build_task

    build_task(settings).base_model(output / "base")


def _perform(settings: RunSettings, output: Path) -> RunRecord | FailedRun:
    from rankwise.training.run import run_and_record

    return run_and_record(settings, output)


def _score(settings: RunSettings, output: Path) -> TestResult:
    from rankwise.training.finished import score_test

    return score_test(settings, output)
