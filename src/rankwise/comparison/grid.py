"""The runs of a comparison: methods × the grid of each × seeds, and how a grid is widened.

A grid is widened while the best learning rate stands at its edge: a best value at an edge says only
that the grid was too small. One step of widening keeps the spacing that the grid has at that edge.
Other settings than the rate are tried as they are named, and an edge among them is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rankwise.core.errors import SettingsError
from rankwise.training.settings.comparison import ComparedMethod, ComparisonSettings
from rankwise.training.settings.grid import GridPoint
from rankwise.training.settings.recipe import Recipe
from rankwise.training.settings.run import RunSettings
from rankwise.training.settings.task import trains_on_validation

MOST_TOGETHER = 24
"""Runs of a group: more gain nothing, and all of them are lost with their worker."""


def comparison_of(recipe: Recipe) -> ComparisonSettings:
    """Return the recipe's comparison.

    Raises:
        SettingsError: The recipe has none, its baseline is not among the methods, or rates would
            be chosen by rows that are trained on.
    """
    comparison = recipe.compare
    if comparison is None:
        raise SettingsError(
            "this recipe has no section 'compare': add one with methods and learning_rates, "
            "or use `rankwise train`"
        )
    names = {method.title for method in comparison.chosen_methods}
    if comparison.baseline not in names:
        raise SettingsError(
            f"compare.baseline {comparison.baseline!r} must be one of the methods compared: "
            f"{', '.join(sorted(names))}"
        )
    chooses = any(len(comparison.points_of(method)) > 1 for method in comparison.chosen_methods)
    if trains_on_validation(recipe.task) and chooses:
        raise SettingsError(
            "task.protocol 'final' trains on the validation rows too, so no rate can be chosen by "
            "them: name one in compare.learning_rates, or choose under protocol 'tuning'"
        )
    return comparison


def runs_of(
    recipe: Recipe, method: ComparedMethod, *, points: Sequence[GridPoint], seeds: Sequence[int]
) -> list[RunSettings]:
    """Return the runs of one method: each point of its grid with each seed."""
    common = recipe.run()
    return [method.run(common, at=point, seed=seed) for point in points for seed in seeds]


def together(runs: Iterable[RunSettings]) -> list[list[RunSettings]]:
    """Return the runs in groups, one a call of a worker.

    Stackable ones that differ in learning rate and seed alone are a group, as they may be trained
    in lockstep; any other run is alone.
    """
    groups: dict[str, list[RunSettings]] = {}
    for run in runs:
        training = run.training.model_copy(update={"learning_rate": 1.0})
        alike = run.model_copy(update={"training": training, "seed": 0}).model_dump_json()
        groups.setdefault(alike if run.is_stackable else run.name, []).append(run)
    return [
        group[start : start + MOST_TOGETHER]
        for group in groups.values()
        for start in range(0, len(group), MOST_TOGETHER)
    ]


def examined_runs(recipe: Recipe) -> list[RunSettings]:
    """Return one run of each method at the recipe's learning rate and seed, as a doctor sees them.

    Without a comparison it is the recipe's own run.
    """
    if recipe.compare is None:
        return [recipe.run()]
    point = GridPoint(recipe.training.learning_rate)
    return [
        run
        for method in recipe.compare.chosen_methods
        for run in runs_of(recipe, method, points=[point], seeds=[recipe.seed])
    ]


def widened(rates: Sequence[float], best: float) -> float | None:
    """Return the next rate beyond the edge at which ``best`` stands, or None if it is inside.

    >>> widened([0.001, 0.003, 0.01], best=0.01)
    0.03
    """
    ordered = sorted(rates)
    if len(ordered) < 2 or ordered[0] < best < ordered[-1]:
        return None
    if best == ordered[0]:
        ordered.reverse()
    # Steps of 3 and 3.3 take turns in a grid like 1e-3, 3e-3, 1e-2: the last step but one comes
    # next.
    edge, steps = ordered[-1], [ordered[i + 1] / ordered[i] for i in range(len(ordered) - 1)]
    return float(f"{edge * steps[-2 if len(steps) > 1 else -1]:.3g}")
