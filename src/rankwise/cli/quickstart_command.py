"""``rankwise quickstart``: LoRA against the four methods on digits, with what was seen."""

from __future__ import annotations

import argparse
from typing import Any

from rankwise.cli import compare_command
from rankwise.cli.arguments import add_results, positive, results_folder
from rankwise.cli.showing import say, show_table
from rankwise.comparison.folder import read_runs, read_summary
from rankwise.comparison.loss_curves import curves_table, loss_curves, said_of_starts

SECTIONS = compare_command.SECTIONS
RECIPE = "quickstart"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder and the number of workers; the recipe is known."""
    add_results(parser)
    parser.add_argument("--workers", type=positive, help="runs at once (default: one a core)")
    parser.epilog = "It is `rankwise compare quickstart`, with curves and what they show."


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Compare, then show the loss curves and say what was seen."""
    arguments = compare_command.arguments_for(
        RECIPE, output=arguments.output, workers=arguments.workers
    )
    code = compare_command.run(arguments, overrides)
    output = results_folder(arguments)
    summary = read_summary(output)
    curves = loss_curves(summary, read_runs(output, summary))
    show_table(curves_table(curves))
    say(*said_of_starts(curves, baseline=summary.protocol.baseline))
    say(
        "What is significant on test is said above; one small task on one base model says nothing "
        "of others. Next, on data of your own: rankwise compare reviews.csv --task.model MODEL; "
        "the papers' experiments: rankwise list recipes"
    )
    return code
