"""A comparison from beginning to end: race, widen, choose on validation, add seeds, read test once.

Every finished run is a record on disk, so an interrupted comparison resumes.
With other settings it is another run, in another folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from rankwise.comparison.analysis.choice import MethodSweep
from rankwise.comparison.analysis.race import FEWEST_SEEDS
from rankwise.comparison.engines.protocol import Engine
from rankwise.comparison.grid import comparison_of, runs_of, together, widened
from rankwise.training.folder import RunFolder
from rankwise.training.recorded import finished_record, recorded_retention, recorded_test
from rankwise.training.records import FailedRun, RetentionRecord, RunRecord, TestResult
from rankwise.training.settings.grid import RATE, GridPoint
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
    """Run what has no record yet: the grids on a few seeds, then the chosen points on all.

    The points of a grid race, and each method's grid is widened while its best rate is at an edge.
    """
    comparison = comparison_of(recipe)
    runner = _Runner(recipe, output, engine, watcher)
    sweeps = [MethodSweep(method, []) for method in comparison.chosen_methods]
    fresh = [(method, comparison.points_of(method.method)) for method in sweeps]
    for left in reversed(range(comparison.widenings + 1)):
        runner.race(fresh, seeds=comparison.swept_seeds)
        fresh = [(each, [point]) for each in sweeps if (point := _beyond_edge(each))]
        if not fresh or not left:
            break
        for each, (point,) in fresh:
            watcher.widened(each.method.title, point.learning_rate)
    chosen = [(method, [point]) for method in sweeps if (point := method.choose())]
    if left_out := comparison.seeds[len(comparison.swept_seeds) :]:
        runner.run(chosen, seeds=left_out)
    return sweeps


def _beyond_edge(method: MethodSweep) -> GridPoint | None:
    """Return the point with the next rate beyond the edge at which the best one stands, if any."""
    best = method.best()
    if best is None:
        return None
    rates = [float(rate) for rate in method.tried(RATE, beside=best)]
    rate = widened(rates, best.learning_rate)
    return None if rate is None else replace(best, learning_rate=rate)


Result = TypeVar("Result", TestResult, RetentionRecord)


def read_test(sweeps: list[MethodSweep], output: Path, *, engine: Engine) -> dict[str, TestResult]:
    """Score on test the runs of each chosen rate, and no others; keyed by the run's name."""
    return _read_once(sweeps, output, engine, recorded=recorded_test, read=_score)


def measures_retention(recipe: Recipe) -> bool:
    """Say whether it is to be measured what the chosen runs have lost of what the base knew.

    Raises:
        SettingsError: It was asked for, and the task knows no measure of it.
    """
    asked = comparison_of(recipe).retention
    return asked is not False and _tells_retention(recipe.run(), is_asked=asked is True)


def read_retention(
    sweeps: list[MethodSweep], output: Path, *, engine: Engine
) -> dict[str, RetentionRecord]:
    """Measure, once, what the runs of each chosen point have lost; keyed by the run's name."""
    return _read_once(sweeps, output, engine, recorded=recorded_retention, read=_retain)


def _read_once(
    sweeps: list[MethodSweep],
    output: Path,
    engine: Engine,
    *,
    recorded: Callable[[RunFolder], Result | None],
    read: Callable[[RunSettings, Path], Result],
) -> dict[str, Result]:
    """Return what was recorded of the runs of each chosen point, or else is read of them now."""
    chosen = [run for method in sweeps for run in method.best_runs()]
    kept = {
        run.run: result
        for run in chosen
        if (result := recorded(RunFolder.below(output, run.run))) is not None
    }
    calls = [(run.run_settings(), output) for run in chosen if run.run not in kept]
    return kept | {result.run: result for result in engine.run(read, calls)}


_Entered: TypeAlias = tuple[MethodSweep, list[GridPoint]]


@dataclass
class _Runner:
    """Performs the runs of a comparison that have no record yet."""

    recipe: Recipe
    output: Path
    engine: Engine
    watcher: Watcher
    has_base: bool = False

    def race(self, entered: Sequence[_Entered], *, seeds: Sequence[int]) -> None:
        """Let points of each method race over ``seeds``, dropping what can no longer win.

        They race against one another and those that are in the race already.
        """
        for method, points in entered:
            method.points += points
        # Two seeds at first, as nothing is dropped after one.
        for first, last in pairwise((0, *range(min(FEWEST_SEEDS, len(seeds)), len(seeds) + 1))):
            left = [(method, method.racing(points)) for method, points in entered]
            self.run(left, seeds=seeds[first:last])
            for method, _ in entered:
                method.drop_losers(seeds=len(seeds))

    def run(self, entered: Iterable[_Entered], *, seeds: Sequence[int]) -> None:
        """Give each method the records of points of its grid, each with each seed."""
        runs = {
            settings.name: (settings, method)
            for method, points in entered
            for settings in runs_of(self.recipe, method.method, points=points, seeds=seeds)
        }
        self.watcher.plan(len(runs))
        for record in self._records({name: settings for name, (settings, _) in runs.items()}):
            runs[record.run][1].records.append(record)
            self.watcher.done(record)

    def _records(self, runs: Mapping[str, RunSettings]) -> Iterator[RunRecord | FailedRun]:
        """Yield what is recorded, then perform the rest; what failed before is tried again."""
        missing = []
        for name, settings in runs.items():
            record = finished_record(RunFolder.below(self.output, name))
            if record is None:
                missing.append(settings)
            else:
                yield record
        if left := [(each, self.output) for each in together(missing)]:
            if not self.has_base:
                # Before any worker needs it, so that no two make it at once.
                _make_base_model(self.recipe.run(), self.output)
                self.has_base = True
            for records in self.engine.run(_perform, left):
                yield from records


# What trains and scores is loaded where it is used, in a worker as a rule: a page of records, and
# whatever else imports this file, does without torch.


def load_training() -> None:
    """Load what trains, so that a first run does not wait for it."""
    import rankwise.training.together  # noqa: F401


def _make_base_model(settings: RunSettings, output: Path) -> None:
    from rankwise.training.build import build_task

    build_task(settings).base_model(output / "base")


def _perform(settings: Sequence[RunSettings], output: Path) -> list[RunRecord | FailedRun]:
    from rankwise.training.together import run_all_and_record

    return run_all_and_record(settings, output)


def _score(settings: RunSettings, output: Path) -> TestResult:
    from rankwise.training.finished import score_test

    return score_test(settings, output)


def _retain(settings: RunSettings, output: Path) -> RetentionRecord:
    from rankwise.training.finished import FinishedRun

    return FinishedRun.below(output, settings.name).retention()


def _tells_retention(settings: RunSettings, *, is_asked: bool) -> bool:
    from rankwise.tasks.retention import RetentionTask
    from rankwise.training.build import build_task
    from rankwise.training.finished import retention_task

    task = build_task(settings)
    if is_asked:
        retention_task(task)
        return True
    return isinstance(task, RetentionTask) and task.is_retention_cheap
