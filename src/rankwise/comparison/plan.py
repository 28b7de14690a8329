"""What a comparison will take, from what one run of each method took for a few steps.

Where hours are given it is cut until it fits, by what is missed least: first how far the grid of
rates may grow, then the seeds at every rate, the outer rates, the epochs, and the seeds last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rankwise.comparison.grid import comparison_of
from rankwise.core.errors import SettingsError
from rankwise.training.probes.cost import RunCost
from rankwise.training.settings.comparison import ComparedMethod, ComparisonSettings
from rankwise.training.settings.grid import RATE
from rankwise.training.settings.recipe import Recipe

Values = tuple[Any, ...]
_SECONDS = 3600
_CUT = (
    "compare.widenings",
    "compare.sweep_seeds",
    "compare.learning_rates",
    "training.epochs",
    "compare.seeds",
)


def runs_of_a_method(comparison: ComparisonSettings, method: ComparedMethod) -> tuple[int, int]:
    """Return how many runs a method has at most, and how many more where its grid of rates grows.

    Fewer are made where points of its grid can no longer win.
    """
    swept = len(comparison.swept_seeds)
    runs = len(comparison.points_of(method)) * swept + len(comparison.seeds) - swept
    grows = len(comparison.grid_of(method)[RATE]) > 1
    return runs, comparison.widenings * swept if grows else 0


def counted_runs(comparison: ComparisonSettings) -> str:
    """Say how many runs there will be at most, and of one seed which it is."""
    counts = [runs_of_a_method(comparison, each) for each in comparison.chosen_methods]
    runs, grows = (sum(column) for column in zip(*counts, strict=True))
    more = f", and up to {grows} more where a grid of rates grows" if grows else ""
    methods, seeds = _number_of("method", len(counts)), _number_of("seed", len(comparison.seeds))
    # Whoever writes --compare.seeds 3 may have meant three.
    which = f" (number {comparison.seeds[0]})" if len(comparison.seeds) == 1 else ""
    return f"at most {_number_of('run', runs)}: {methods}, {seeds}{which}{more}"


def _number_of(noun: str, number: int) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def hours_of(recipe: Recipe, costs: Sequence[RunCost], *, workers: int, grown: bool) -> float:
    """Return the hours of all runs, shared by ``workers`` at once.

    Args:
        recipe: With its comparison.
        costs: Of one run of each method, in the order of the methods.
        workers: Runs at once.
        grown: Whether each grid of rates grows as far as it may.
    """
    comparison, seconds = comparison_of(recipe), 0.0
    for method, cost in zip(comparison.chosen_methods, costs, strict=True):
        runs, grows = runs_of_a_method(comparison, method)
        epochs = method.training.get("epochs", recipe.training.epochs)
        seconds += cost.seconds_of(epochs) * (runs + (grows if grown else 0))
    return seconds / workers / _SECONDS


def cut_to_hours(
    recipe: Recipe, costs: Sequence[RunCost], hours: float, *, workers: int
) -> tuple[Recipe, list[str]]:
    """Return the recipe cut until all its runs fit into ``hours``, and what was cut.

    Raises:
        SettingsError: One rate, one epoch and one seed still take longer.
    """
    least = 0.0
    for cut in (recipe, *_cuts(recipe)):
        least = hours_of(cut, costs, workers=workers, grown=True)
        if least <= hours:
            return cut, _differences(recipe, cut)
    raise SettingsError(
        f"--hours {hours:g} is too little: with one seed, one rate and one epoch the "
        f"{len(costs)} methods still take {least:.2g} h here: compare fewer methods "
        "(--compare.methods), or fewer rows (--task.rows)"
    )


def _cuts(recipe: Recipe) -> Iterator[Recipe]:
    """Yield the recipe cut further and further."""
    recipe = _changed(recipe, widenings=0)
    yield recipe
    recipe = _changed(recipe, sweep_seeds=1)
    yield recipe
    while max(map(len, _rates(recipe))) > 2:
        recipe = _with_rates(recipe, _without_an_end)
        yield recipe
    while (epochs := recipe.training.epochs) > 1:
        training = recipe.training.model_copy(update={"epochs": epochs // 2})
        recipe = recipe.model_copy(update={"training": training})
        yield recipe
    recipe = _with_rates(recipe, lambda values: values[:1])
    yield recipe
    while len(seeds := comparison_of(recipe).seeds) > 1:
        recipe = _changed(recipe, seeds=seeds[:-1])
        yield recipe


def _without_an_end(values: Values) -> Values:
    """Leave out the highest of an odd number, else the lowest, down to two: those inside stay."""
    if len(values) <= 2:
        return values
    return values[:-1] if len(values) % 2 else values[1:]


def _rates(recipe: Recipe) -> list[Values]:
    comparison = comparison_of(recipe)
    return [comparison.grid_of(method)[RATE] for method in comparison.chosen_methods]


def _with_rates(recipe: Recipe, cut: Callable[[Values], Values]) -> Recipe:
    """Return the recipe with ``cut`` done to its learning rates, and to those of its methods."""
    comparison = comparison_of(recipe)
    methods = tuple(
        each.model_copy(update={"sweep": {**each.sweep, RATE: cut(tuple(sorted(own)))}})
        if (own := each.sweep.get(RATE))
        else each
        for each in comparison.methods
    )
    rates = cut(tuple(sorted(comparison.learning_rates)))
    return _changed(recipe, learning_rates=rates, methods=methods)


def _changed(recipe: Recipe, **settings: Any) -> Recipe:
    comparison = comparison_of(recipe).model_copy(update=settings)
    return recipe.model_copy(update={"compare": comparison})


def _differences(recipe: Recipe, cut: Recipe) -> list[str]:
    found = []
    for name in _CUT:
        section, _, setting = name.partition(".")
        was, now = (getattr(getattr(each, section), setting) for each in (recipe, cut))
        if was != now:
            found.append(f"{name}: {_shown(was)} becomes {_shown(now)}")
    if _rates(recipe) != _rates(cut) and not comparison_of(recipe).learning_rates:
        found.append("the learning rates of each method become fewer")
    return found


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{each:g}" for each in value)
    return "all" if value is None else str(value)
