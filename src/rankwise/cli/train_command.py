"""``rankwise train``: one run."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from rankwise.training.finished import score_test
from rankwise.training.probes.dry_run import dry_run
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from rankwise.training.settings.run import RunSettings


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Train the run that the recipe describes, read test once, and say where everything is."""
    settings = load_recipe(arguments.recipe, overrides).run()
    console = Console()
    if arguments.dry_run:
        return _show_dry_run(settings, console)
    record = train_run(
        settings,
        arguments.output,
        resume=arguments.resume,
        show_progress=console.is_terminal,
    )
    test = score_test(settings, arguments.output)
    head = f" beside a head of {count:,}" if (count := record.head_parameters) else ""
    console.print(
        f"{record.run}: {record.trainable_parameters:,} trainable parameters{head}, "
        f"{record.metric} {record.score_validation:.3f} on validation, "
        f"{test.score_test:.3f} on test, {record.seconds.total:.1f} s",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"written to {arguments.output / 'runs' / record.run}", highlight=False, soft_wrap=True
    )
    return 0


def _show_dry_run(settings: RunSettings, console: Console) -> int:
    """Say what the run would be; it fails where the count is not the published one."""
    found = dry_run(settings)
    adapter, head = found.parameters
    published = "" if found.published is None else f" (published: {found.published})"
    lines = {
        "run": settings.name,
        "adapter": f"{adapter:,} trainable parameters{published}",
        "head": f"{head:,} trainable parameters",
        "model": f"{found.weights:,} parameters",
        "steps": f"{found.steps:,}",
        "memory": f"{found.state_bytes / 1e9:.2f} GB for weights, factors, gradients and moments; "
        "activations come on top",
    }
    for name, text in lines.items():
        console.print(f"{name:8} {text}", highlight=False, soft_wrap=True)
    if found.agrees:
        return 0
    console.print(
        "the adapter does not train what its paper says: check method.r and "
        "method.adapter.target_modules, or clear --method.published_parameters null",
        highlight=False,
        soft_wrap=True,
    )
    return 1
