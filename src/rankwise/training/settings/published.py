"""Where the score of a paper may stand beside ours: where the run is the one that it is a score of.

A recipe gives the scores. Another model, other rows, another schedule, rank or option make another
run of it, of which the paper says nothing; the learning rate is swept, and what only says where
data lie or who is told changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from rankwise.training.settings.layers import Tree
from rankwise.training.settings.method import MethodSettings

if TYPE_CHECKING:
    from rankwise.training.settings.recipe import Recipe

_CHANGES_NOTHING = {
    "task": {"data_root"},
    "training": {"learning_rate", "report_to", "loop", "logging_steps", "diagnostics"},
    "method": {"label", "budget", "published", "published_parameters", "sweep"},
}


def with_fitting_scores(recipe: Recipe, published: Recipe) -> Recipe:
    """Return ``recipe`` without those scores of ``published`` that are of other runs than its own.

    A score that is not in ``published`` was given by whoever changed the recipe, and stays.
    """
    if getattr(recipe.task, "model", None) != getattr(published.task, "model", None):
        recipe = _without_counts(recipe, published)
    is_same = _settings(recipe) == _settings(published)
    known = (published.method, *_entries(published))
    return _with_methods(recipe, partial(_fitting, known=known, is_same=is_same))


def _without_counts(recipe: Recipe, published: Recipe) -> Recipe:
    """Drop the counts of parameters that are of another model."""

    known = {each.published_parameters for each in (published.method, *_entries(published))}

    def counted(method: Any) -> Any:
        count = None if method.published_parameters in known else method.published_parameters
        return method.model_copy(update={"published_parameters": count})

    return _with_methods(recipe, counted)


def _with_methods(recipe: Recipe, change: Callable[[Any], Any]) -> Recipe:
    """Return ``recipe`` with its own method and each that it compares changed."""
    changed: Tree = {"method": change(recipe.method)}
    if recipe.compare is not None:
        methods = tuple(map(change, recipe.compare.methods))
        changed["compare"] = recipe.compare.model_copy(update={"methods": methods})
    return recipe.model_copy(update=changed)


def _fitting(method: Any, *, known: tuple[MethodSettings, ...], is_same: bool) -> Any:
    if method.published is None:
        return method
    of_the_paper = [
        each for each in known if (each.name, each.published) == (method.name, method.published)
    ]
    if not of_the_paper or (is_same and any(_run(each) == _run(method) for each in of_the_paper)):
        return method
    return method.model_copy(update={"published": None})


def _entries(recipe: Recipe) -> tuple[MethodSettings, ...]:
    return recipe.compare.methods if recipe.compare else ()


def _settings(recipe: Recipe) -> list[Tree]:
    return [
        getattr(recipe, section).model_dump(exclude=_CHANGES_NOTHING[section])
        for section in ("task", "training")
    ]


def _run(method: MethodSettings) -> Tree:
    tree = method.model_dump(exclude=_CHANGES_NOTHING["method"])
    # The recipe's own method has no settings of the run for itself.
    return {key: value for key, value in tree.items() if key not in ("task", "training") or value}
