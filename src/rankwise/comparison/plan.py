"""What a comparison will take, from what one run of each method took for a few steps.

Where hours are given it is cut until it fits, by what is missed least: first how far the grid of
rates may grow, then the seeds at every rate, the outer rates, the epochs, and the seeds last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rankwise.comparison.grid import comparison_of
from rankwise.core.errors import SettingsError
from rankwise.training.probes.cost import RunCost
from rankwise.training.settings.comparison import ComparisonSettings
from rankwise.training.settings.recipe import Recipe

_SECONDS = 3600
_CUT = (
    "compare.widenings",
    "compare.sweep_seeds",
    "compare.learning_rates",
    "training.epochs",
    "compare.seeds",
)


def runs_of_a_method(comparison: ComparisonSettings) -> tuple[int, int]:
    """Return how many runs each method has, and how many more where its grid of rates grows.

    >>> from rankwise.training.settings.recipe import load_recipe
    >>> runs_of_a_method(load_recipe("glue-tutorial").compare)
    (5, 0)
    """
    swept = comparison.sweep_seeds or len(comparison.seeds)
    rates = len(comparison.learning_rates)
    runs = rates * swept + len(comparison.seeds) - swept
    return runs, comparison.widenings * swept if rates > 1 else 0


def counted_runs(comparison: ComparisonSettings) -> str:
    """Say how many runs there will be."""
    methods, (runs, grows) = len(comparison.chosen_methods), runs_of_a_method(comparison)
    few = comparison.sweep_seeds not in (None, len(comparison.seeds))
    swept = f", {comparison.sweep_seeds} of them at every rate" if few else ""
    more = f", and up to {methods * grows} more where the grid of rates grows" if grows else ""
    return (
        f"{methods * runs} runs: {methods} methods, {len(comparison.learning_rates)} learning "
        f"rates, {len(comparison.seeds)} seeds{swept}{more}"
    )


def hours_of(recipe: Recipe, costs: Sequence[RunCost], *, workers: int, grown: bool) -> float:
    """Return the hours of all runs, shared by ``workers`` at once.

    Args:
        recipe: With its comparison.
        costs: Of one run of each method, in the order of the methods.
        workers: Runs at once.
        grown: Whether each grid of rates grows as far as it may.
    """
    comparison = comparison_of(recipe)
    runs, grows = runs_of_a_method(comparison)
    seconds = sum(
        cost.seconds_of(method.training.get("epochs", recipe.training.epochs))
        for method, cost in zip(comparison.chosen_methods, costs, strict=True)
    )
    return seconds * (runs + (grows if grown else 0)) / workers / _SECONDS


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
    while len(rates := sorted(comparison_of(recipe).learning_rates)) > 2:
        recipe = _changed(recipe, learning_rates=tuple(_without_an_end(rates)))
        yield recipe
    while (epochs := recipe.training.epochs) > 1:
        training = recipe.training.model_copy(update={"epochs": epochs // 2})
        recipe = recipe.model_copy(update={"training": training})
        yield recipe
    if len(rates) > 1:
        recipe = _changed(recipe, learning_rates=tuple(rates[:1]))
        yield recipe
    while len(seeds := comparison_of(recipe).seeds) > 1:
        recipe = _changed(recipe, seeds=seeds[:-1])
        yield recipe


def _without_an_end(rates: Sequence[float]) -> Sequence[float]:
    """Leave out the highest rate of an odd number, else the lowest: those inside stay."""
    return rates[:-1] if len(rates) % 2 else rates[1:]


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
    return found


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{each:g}" for each in value)
    return "all" if value is None else str(value)
