"""``rankwise compare --plan``, ``--hours`` and ``--budget``: what it will take, before."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from rankwise.cli.showing import add_columns, add_row, say, show_table
from rankwise.comparison.grid import comparison_of, examined_runs
from rankwise.comparison.plan import counted_runs, cut_to_hours, hours_of, runs_of_a_method
from rankwise.core.cores import usable_cores
from rankwise.core.errors import SettingsError
from rankwise.training.probes.cost import RunCost
from rankwise.training.settings.adapters import FactoredSettings
from rankwise.training.settings.comparison import ComparedMethod
from rankwise.training.settings.recipe import Recipe, is_own_data
from rankwise.training.settings.run import RunSettings

if TYPE_CHECKING:
    from rankwise.comparison.engines.protocol import Engine

_COLUMNS = ("method", "r", "trained", "bytes", "memory MB", "steps", "s/step", "s/run", "runs", "h")


def add_planning(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group("what it may take")
    group.add_argument(
        "--plan", action="store_true", help="measure a few steps of each method, say what all takes"
    )
    group.add_argument(
        "--hours", type=_positive, help="cut the comparison until it fits; seeds are cut last"
    )
    group.add_argument(
        "--budget",
        type=_positive,
        metavar="PARAMETERS",
        help="give each method the rank at which it trains so many parameters, such as 4e4",
    )


def with_budget(recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    """Return the recipe with ranks of one budget, as asked; of own data that of LoRA at its rank.

    Raises:
        SettingsError: A method trains more at rank 1.
        ModelError: The model's configuration is not at hand.
    """
    if arguments.budget is None and not is_own_data(arguments.recipe):
        return recipe
    from rankwise.training.probes.budget import adapter_parameters, fit_rank

    comparison, runs = comparison_of(recipe), examined_runs(recipe)
    if arguments.budget is not None:
        budget = int(arguments.budget)
    else:
        baseline = [run for run in runs if run.method.title == comparison.baseline]
        budget = adapter_parameters(baseline[0])
    methods: list[ComparedMethod] = []
    for method, run in zip(comparison.chosen_methods, runs, strict=True):
        if method.rank is None:
            methods.append(method)
            continue
        if (adapter := _placed_by(method, budget)) is not None:
            methods.append(method.model_copy(update={"adapter": adapter, "budget": f"{budget:,}"}))
            say(f"{method.title}: places ranks under {budget:,} parameters")
            continue
        r, parameters = fit_rank(run, budget)
        methods.append(method.model_copy(update={"r": r, "budget": f"{budget:,}"}))
        say(f"{method.title}: rank {r} trains {parameters:,} of {budget:,} parameters")
    changed = {"methods": tuple(methods), "budgets": None}
    return recipe.model_copy(update={"compare": comparison.model_copy(update=changed)})


def _placed_by(method: ComparedMethod, budget: int) -> FactoredSettings | None:
    """Return the adapter of a method that places ranks, with another budget; else None."""
    adapter = method.adapter
    if not isinstance(adapter, FactoredSettings) or adapter.rank_budget is None:
        return None
    return adapter.model_copy(update={"rank_budget": budget})


def planned(
    recipe: Recipe,
    arguments: argparse.Namespace,
    *,
    engine: Callable[[Path], AbstractContextManager[Engine]],
) -> Recipe:
    """Measure a few steps of each method and say what all takes; cut to ``--hours`` if given.

    Nothing is left on disk.

    Raises:
        SettingsError: A method could not begin, or the hours are too few for one run of each.
    """
    workers = arguments.workers or usable_cores()
    costs = _measured(recipe, engine)
    if arguments.plan:
        _show(recipe, costs, workers)
    if arguments.hours is None:
        return recipe
    cut, sentences = cut_to_hours(recipe, costs, arguments.hours, workers=workers)
    hours = hours_of(cut, costs, workers=workers, grown=True)
    told = "; ".join(sentences) or "nothing is cut"
    say(f"for {arguments.hours:g} h: {told} ({hours:.2g} h at most)")
    return cut


def _measured(
    recipe: Recipe, engine: Callable[[Path], AbstractContextManager[Engine]]
) -> list[RunCost]:
    from rankwise.training.build import build_task

    runs = examined_runs(recipe)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Before any worker needs it, so that no two make it at once.
        build_task(runs[0]).base_model(folder / "base")
        with engine(folder) as workers:
            found = list(workers.run(_probe, [(run, folder) for run in runs]))
    for each in found:
        if isinstance(each, str):
            raise SettingsError(each)
    by_run = {each.run: each for each in found if isinstance(each, RunCost)}
    return [by_run[run.name] for run in runs]


def _probe(run: RunSettings, folder: Path) -> RunCost | str:
    """Measure one run in a worker; what stops it is told."""
    from rankwise.core.errors import RankwiseError
    from rankwise.training.probes.timing import probe_run

    try:
        return probe_run(run, folder)
    except RankwiseError as error:
        return f"{run.method.title} cannot begin: {error}"


def _show(recipe: Recipe, costs: Sequence[RunCost], workers: int) -> None:
    comparison = comparison_of(recipe)
    counts = [runs_of_a_method(comparison, method) for method in comparison.chosen_methods]
    table = Table(
        title=f"{recipe.task.name}: measured on a few steps of each method",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    add_columns(table, _COLUMNS, texts=("method",), no_wrap=True)
    for method, cost, (runs, grows) in zip(comparison.chosen_methods, costs, counts, strict=True):
        add_row(
            table,
            method.title,
            "–" if method.rank is None else str(method.rank),
            f"{cost.trainable_parameters:,}",
            f"{cost.stored_bytes:,}",
            f"{cost.peak_memory_bytes / 1e6:,.0f}",
            f"{cost.steps:,}",
            f"{cost.step_seconds:.3g}",
            f"{cost.seconds:.3g}",
            f"{runs} + {grows}" if grows else str(runs),
            f"{cost.seconds * runs / 3600:.2g}",
        )
    show_table(table)
    stored = sum(cost.stored_bytes * runs for cost, (runs, _) in zip(costs, counts, strict=True))
    steps = sum(cost.steps * runs for cost, (runs, _) in zip(costs, counts, strict=True))
    least, most = (hours_of(recipe, costs, workers=workers, grown=grown) for grown in (False, True))
    span = f"{least:.2g} h" if math.isclose(least, most) else f"{least:.2g} to {most:.2g} h"
    memory = max(cost.peak_memory_bytes for cost in costs) * workers
    say(
        counted_runs(comparison),
        f"{steps:,} steps, {span} with {workers} at once, {memory / 1e9:.2g} GB of memory at most, "
        f"{stored / 1e6:.3g} MB stored",
    )


def _positive(text: str) -> float:
    """Read a number above 0."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return number
