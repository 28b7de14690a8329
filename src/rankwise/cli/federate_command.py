"""``rankwise federate``: methods in their federated forms, over several clients on Flower."""

from __future__ import annotations

import argparse
import importlib.util
import logging
from typing import TYPE_CHECKING, Any

from rich.console import Console

from rankwise.cli.showing import show_table
from rankwise.core.directories import draft_of
from rankwise.core.errors import SettingsError
from rankwise.training.settings.recipe import load_recipe

if TYPE_CHECKING:
    from rankwise.training.settings.federation_plan import Plan


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Simulate the federation of each method of the recipe, and print what came of it."""
    _require_extra()
    # These need the optional extra.
    from rankwise.federated.federate import federate, plans_of
    from rankwise.federated.settings import check_given
    from rankwise.federated.table import federations_table, remarks, rounds_table, strategy_name

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    check_given(overrides)
    plans = plans_of(load_recipe(arguments.recipe, overrides))
    console, records = Console(highlight=False, soft_wrap=True), []
    if arguments.app is not None:
        _write_apps(plans, arguments, console)
        return 0
    for record in federate(
        plans, arguments.output.resolve(), resume=arguments.resume, workers=arguments.workers
    ):
        records.append(record)
        console.print(
            f"{strategy_name(record)}: {record.metric} {record.score_validation:.3f} on "
            f"validation after {len(record.rounds) - 1} rounds"
        )
    show_table(rounds_table(records))
    show_table(federations_table(records))
    for sentence in remarks(records):
        console.print(sentence)
    console.print(
        f"written: {arguments.output / 'federated.json'}, {arguments.output / 'federated.html'}"
    )
    return 0


def _write_apps(plans: list[Plan], arguments: argparse.Namespace, console: Console) -> None:
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
    console.print(f"written: {', '.join(titles)} in {arguments.app}, each for `flwr run`")


def _require_extra() -> None:
    missing = [name for name in ("flwr", "ray", "plotly") if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"a federation needs {' and '.join(missing)}, which cannot be found: "
            "pip install 'rankwise[federated]'"
        )
