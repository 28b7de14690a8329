"""``rankwise evaluate``: the score of a run or of an adapter directory on a split of a task."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from rankwise.cli.answering import show_answers
from rankwise.core.errors import SettingsError
from rankwise.training.evaluating import score_adapter


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Score the model that ``arguments.run`` names on ``arguments.split``."""
    if arguments.tasks is not None:
        if overrides:
            raise SettingsError(f"--tasks takes no settings, got {overrides}")
        return show_answers(arguments)
    if overrides.keys() - {"task"}:
        raise SettingsError(f"`rankwise evaluate` takes settings of the task only, got {overrides}")
    settings, result = score_adapter(
        arguments.run,
        split=arguments.split,
        task=arguments.task,
        options=overrides.get("task"),
    )
    scores = ", ".join(f"{name} {value:.4f}" for name, value in result.scores.items())
    invalid = f", {result.invalid} outputs were no answer" if result.invalid else ""
    Console(highlight=False, soft_wrap=True).print(
        f"{arguments.run} on {arguments.split} of {settings.task.name}: {scores}, "
        f"loss {result.loss:.4f} ({len(result.labels)} rows{invalid})"
    )
    return 0
