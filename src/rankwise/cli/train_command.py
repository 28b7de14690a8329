"""``rankwise train``: one run."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from rankwise.training.recipes import load_recipe
from rankwise.training.run import train_run
from rankwise.training.scoring import score_test


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Train the run that the recipe describes, read test once, and say where everything is."""
    settings = load_recipe(arguments.recipe, overrides).run()
    console = Console()
    record = train_run(
        settings,
        arguments.output,
        resume=arguments.resume,
        show_progress=console.is_terminal,
    )
    test = score_test(settings, arguments.output)
    head = f" beside a head of {count:,}" if (count := record["head_parameters"]) else ""
    console.print(
        f"{record['run']}: {record['trainable_parameters']:,} trainable parameters{head}, "
        f"{record['metric']} {record['score_validation']:.3f} on validation, "
        f"{test['score_test']:.3f} on test, {record['seconds']['total']:.1f} s",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"written to {arguments.output / 'runs' / record['run']}", highlight=False, soft_wrap=True
    )
    return 0
