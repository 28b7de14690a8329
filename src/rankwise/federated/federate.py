"""Several methods in one federation: the plans of a recipe, and what came of them.

OUTPUT/base/             the base model, made once
OUTPUT/METHOD-DIGEST/    one federation (``progress.py``)
OUTPUT/federated.json    the records of all, in the order of the recipe
OUTPUT/federated.html    the page: tables, charts, settings
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rankwise.core.errors import SettingsError
from rankwise.core.locks import sole_use
from rankwise.federated.progress import Progress, SavedProgress
from rankwise.federated.report.page import PAGE, write_report
from rankwise.federated.settings import check_followed
from rankwise.federated.simulation import simulate
from rankwise.federated.strategies import check_method
from rankwise.training.federation_records import FEDERATIONS, FederationRecord, Federations
from rankwise.training.settings.federation_plan import Plan
from rankwise.training.settings.grid import GridPoint
from rankwise.training.settings.recipe import Recipe
from rankwise.training.settings.run import RunSettings


def plans_of(recipe: Recipe) -> list[Plan]:
    """Return one plan for each method that the recipe compares, or for its own method.

    A method of the comparison trains at the rate of its own ``training``, else at the recipe's.

    Raises:
        SettingsError: A method has no federated form, or a setting would mean nothing.
    """
    runs = _runs_of(recipe)
    for run in runs:
        check_method(run.method)
        check_followed(run)
    return [Plan(run=run, federated=recipe.federated) for run in runs]


def _runs_of(recipe: Recipe) -> list[RunSettings]:
    run = recipe.run()
    if recipe.compare is None:
        return [run]
    return [
        method.run(
            run,
            at=GridPoint(method.training.get("learning_rate", run.training.learning_rate)),
            seed=run.seed,
        )
        for method in recipe.compare.chosen_methods
    ]


def federate(
    plans: list[Plan], output: Path, *, resume: bool = False, workers: int | None = None
) -> Iterator[FederationRecord]:
    """Simulate the plans one after another, and yield the record of each as it is done.

    Raises:
        AdapterError: What is there is damaged.
        SettingsError: A federation is there already, and ``resume`` was not asked for; or one of
            other settings was interrupted there, and it was; or another command is at work there.
        TrainingError: One has too few clients left; what it has come to is saved.
    """
    places = [Progress(output / _name_of(plan), plan) for plan in plans]
    with sole_use(output):
        for plan, place in zip(plans, places, strict=True):
            _check_place(plan, place, resume=resume)
        records: list[FederationRecord] = []
        for plan, place in zip(plans, places, strict=True):
            if place.record.exists():
                record = FederationRecord.read(place.record)
            else:
                record = simulate(plan, place.folder, output, workers=workers)
            records.append(record)
            yield record
        Federations(federations=tuple(records)).write(output / FEDERATIONS)
        write_report(records, output / PAGE)


def _check_place(plan: Plan, place: Progress, *, resume: bool) -> None:
    if place.is_begun and not resume:
        raise SettingsError(
            f"{place.folder} holds this federation already: add --resume to go on with it, "
            "or choose another --output"
        )
    if place.is_begun or not resume:
        return
    for file in sorted(place.folder.parent.glob("*/progress.json")):
        other = SavedProgress.read(file).plan
        if other.run.method.name != plan.run.method.name:
            continue
        if not (file.parent / place.record.name).exists():
            raise SettingsError(
                f"the federation of {plan.run.method.title!r} that was interrupted in "
                f"{file.parent} has other settings: give the same to go on with it (min_clients, "
                "timeout_seconds and join_seconds may differ), or leave out --resume to begin a "
                "new one"
            )


def _name_of(plan: Plan) -> str:
    return f"{plan.run.method.title}-{plan.digest}-{plan.federated.rounds}"
