"""A comparison from beginning to end: sweep, widen, choose on validation, read test once, sum up.

Every finished run is a record on disk, so a comparison that was stopped goes on where it stood.
With other settings it is another run, in another folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from rankwise.comparison.analysis.choice import MethodSweep
from rankwise.comparison.engines.protocol import Engine
from rankwise.comparison.grid import comparison_of, runs_of, widened
from rankwise.training.build import build_task
from rankwise.training.run import run_and_record
from rankwise.training.scoring import score_test
from rankwise.training.settings.run import Recipe, RunSettings

Record = dict[str, Any]


class Watcher(Protocol):
    """Somebody who is told how far a comparison is."""

    def plan(self, runs: int) -> None:
        """``runs`` more runs are to be done."""
        ...

    def done(self, record: Record) -> None:
        """One more run is done, or was found done."""
        ...


def sweep(recipe: Recipe, output: Path, *, engine: Engine, watcher: Watcher) -> list[MethodSweep]:
    """Run what has no record yet, widening each method's grid while its best rate is at an edge."""
    comparison = comparison_of(recipe)
    # Made once and here, so that no two workers make the base model at the same time.
    build_task(recipe.run()).base_model(output / "base")
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
    settled = [(method, [rate]) for method in sweeps if (rate := method.settle())]
    if left_out := comparison.seeds[len(swept) :]:
        _run(_planned(recipe, settled, left_out), output, engine=engine, watcher=watcher)
    return sweeps


def read_test(sweeps: list[MethodSweep], output: Path, *, engine: Engine) -> dict[str, Record]:
    """Score on test the runs of each chosen rate, and no others; keyed by the run's name."""
    chosen = [
        record for method in sweeps if (best := method.best()) for record in method.of_rate(best)
    ]
    calls = [(RunSettings.model_validate(record["settings"]), output) for record in chosen]
    return {result["run"]: result for result in engine.run(score_test, calls)}


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
    for record in engine.run(run_and_record, calls):
        runs[record["run"]][1].records.append(record)
        watcher.done(record)
