"""A comparison from beginning to end: sweep, widen, choose on validation, read test once, sum up.

Every finished run is a record on disk, so a comparison that was stopped goes on where it stood.
With other settings it is another run, in another folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from rankwise.comparison.analysis.choice import MethodSweep
from rankwise.comparison.engines.protocol import Engine
from rankwise.comparison.grid import comparison_of, runs_of, widened
from rankwise.training.records import FailedRun, RunRecord, TestResult
from rankwise.training.settings.run import Recipe, RunSettings


class Watcher(Protocol):
    """Somebody who is told how far a comparison is."""

    def plan(self, runs: int) -> None:
        """``runs`` more runs are to be done."""
        ...

    def done(self, record: RunRecord | FailedRun) -> None:
        """One more run is done, or was found done."""
        ...


def sweep(recipe: Recipe, output: Path, *, engine: Engine, watcher: Watcher) -> list[MethodSweep]:
    """Run what has no record yet, widening each method's grid while its best rate is at an edge."""
    comparison = comparison_of(recipe)
    _make_base_model(recipe.run(), output)
    sweeps = [MethodSweep(method, []) for method in comparison.chosen_methods]
    swept = comparison.seeds[: comparison.sweep_seeds]
    fresh = [(method, list(comparison.learning_rates)) for method in sweeps]
    for left in reversed(range(comparison.widenings + 1)):
        for method, rates in fresh:
            method.rates += rates
        _run(_planned(recipe, fresh, swept), output, engine=engine, watcher=watcher)
        grown = [(each, widened(each.rates, best)) for each in sweeps if (best := each.best())]
        fresh = [(method, [rate]) for method, rate in grown if rate is not None]
        if not fresh or not left:
            break
    chosen = [(method, [rate]) for method in sweeps if (rate := method.choose())]
    if left_out := comparison.seeds[len(swept) :]:
        _run(_planned(recipe, chosen, left_out), output, engine=engine, watcher=watcher)
    return sweeps


def read_test(sweeps: list[MethodSweep], output: Path, *, engine: Engine) -> dict[str, TestResult]:
    """Score on test the runs of each chosen rate, and no others; keyed by the run's name."""
    calls = [(run.run_settings(), output) for method in sweeps for run in method.best_runs()]
    return {result.run: result for result in engine.run(_score, calls)}


def _planned(
    recipe: Recipe, rates: Iterable[tuple[MethodSweep, list[float]]], seeds: Sequence[int]
) -> dict[str, tuple[RunSettings, MethodSweep]]:
    return {
        settings.name: (settings, method)
        for method, rates_of_method in rates
        for settings in runs_of(recipe, method.method, rates=rates_of_method, seeds=seeds)
    }


def _run(
    runs: dict[str, tuple[RunSettings, MethodSweep]],
    output: Path,
    *,
    engine: Engine,
    watcher: Watcher,
) -> None:
    watcher.plan(len(runs))
    calls = [(settings, output) for settings, _ in runs.values()]
    for record in engine.run(_perform, calls):
        runs[record.run][1].records.append(record)
        watcher.done(record)


# What trains and scores is loaded where it is used, in a worker as a rule: a page of records, and
# whatever else imports this file, does without torch.


def _make_base_model(settings: RunSettings, output: Path) -> None:
    """Make the base model before any worker needs it, so that no two make it at once."""
    from rankwise.training.build import build_task

    build_task(settings).base_model(output / "base")


def _perform(settings: RunSettings, output: Path) -> RunRecord | FailedRun:
    from rankwise.training.run import run_and_record

    return run_and_record(settings, output)


def _score(settings: RunSettings, output: Path) -> TestResult:
    from rankwise.training.finished import score_test

    return score_test(settings, output)
