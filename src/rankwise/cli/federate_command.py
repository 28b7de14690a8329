"""``rankwise federate``: methods in their federated forms, over several clients on Flower."""

from __future__ import annotations

import argparse
import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankwise.cli.arguments import (
    ALL_SECTIONS,
    add_recipe,
    add_results,
    positive,
    results_folder,
)
from rankwise.cli.showing import say, show_table
from rankwise.core.directories import draft_of
from rankwise.core.errors import SettingsError
from rankwise.training.settings.recipe import load_recipe

if TYPE_CHECKING:
    from rankwise.training.settings.federation_plan import Plan

SECTIONS = ALL_SECTIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the recipe, the folder or app, whether to resume, and how many train at once."""
    add_recipe(parser)
    parser.epilog = f"{parser.epilog} --federated.clients 8 --federated.rounds 20"
    place = parser.add_mutually_exclusive_group()
    add_results(place)
    parser.add_argument("--resume", action="store_true", help="resume an interrupted federation")
    parser.add_argument(
        "--workers", type=positive, help="clients that train at once (default: one a core)"
    )
    place.add_argument(
        "--app", type=Path, help="simulate nothing: write a Flower app a method to this new folder"
    )


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Simulate the federation of each method of the recipe, and print what came of it."""
    _require_extra()
    recipe, output = load_recipe(arguments.recipe, overrides), results_folder(arguments)
    # These need the optional extra.
    from rankwise.federated.federate import federate, plans_of
    from rankwise.federated.settings import check_given
    from rankwise.federated.table import federations_table, remarks, rounds_table, strategy_name

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    check_given(overrides)
    plans = plans_of(recipe)
    records = []
    if arguments.app is not None:
        _write_apps(plans, arguments)
        return 0
    for record in federate(
        plans, output.resolve(), resume=arguments.resume, workers=arguments.workers
    ):
        records.append(record)
        say(
            f"{strategy_name(record)}: {record.metric} {record.score_validation:.3f} on "
            f"validation after {len(record.rounds) - 1} rounds",
        )
    show_table(rounds_table(records))
    show_table(federations_table(records))
    say(*remarks(records))
    say(f"written: {output / 'federated.json'}, {output / 'federated.html'}")
    return 0


def _write_apps(plans: list[Plan], arguments: argparse.Namespace) -> None:
    from rankwise.federated.deployment import write_app

    for name, given in (("--resume", arguments.resume), ("--workers", arguments.workers)):
        if given:
            raise SettingsError(f"{name} means nothing with --app, which simulates nothing")
    titles = [plan.run.method.title for plan in plans]
    if len(set(titles)) < len(titles):
        raise SettingsError(
            f"apps are named after methods, and some have one name ({', '.join(sorted(titles))}): "
            "give each a label of its own"
        )
    with draft_of(arguments.app) as draft:
        for title, plan in zip(titles, plans, strict=True):
            write_app(plan, draft / title)
    say(f"written: {', '.join(titles)} in {arguments.app}, each for `flwr run`")


def _require_extra() -> None:
    missing = [
        name
        for name in ("flwr", "ray", "plotly", "jinja2")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise SettingsError(
            f"a federation needs {' and '.join(missing)}, which cannot be found: "
            "pip install 'rankwise[federated]'"
        )
