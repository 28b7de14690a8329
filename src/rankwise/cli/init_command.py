"""``rankwise init``: the initialization alone, for any trainer."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rankwise.cli.arguments import RUN_SECTIONS, add_recipe, positive
from rankwise.cli.showing import say
from rankwise.training.settings.layers import insert
from rankwise.training.settings.recipe import load_recipe

SECTIONS = RUN_SECTIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the recipe and the new directory."""
    add_recipe(parser)
    parser.add_argument("--output", type=Path, required=True, help="a new directory")
    parser.add_argument(
        "--budget",
        type=positive,
        metavar="PARAMETERS",
        help="place ranks, at most method.r a layer, where the gradient gains most from so many "
        "trained parameters (method.adapter.rank_budget)",
    )


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Write the adapter directory and say how to train on it."""
    if arguments.budget is not None:
        insert(overrides, "method.adapter.rank_budget", arguments.budget)
    settings = load_recipe(arguments.recipe, overrides).run()
    from rankwise.training.initial_adapter import write_initial_adapter

    write_initial_adapter(settings, arguments.output)
    if arguments.budget is not None:
        say(f"ranks placed: {arguments.budget:,} parameters at most, in rank_pattern")
    say(
        f"written: {arguments.output}, read back and compared",
        "next: train on it with PeftModel.from_pretrained(base, "
        f"{str(arguments.output)!r}, is_trainable=True)",
    )
    return 0
