"""``rankwise evaluate``: the score of a run or of an adapter directory on a split of a task.

With ``--tasks`` its model is asked questions instead.
"""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from rankwise.cli.answering import show_answers
from rankwise.cli.answering_options import SPLIT, check_form
from rankwise.cli.harness import show_harness
from rankwise.core.errors import SettingsError
from rankwise.training.evaluating import score_adapter


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Score the model that ``arguments.run`` names on ``arguments.split``, or ask it."""
    check_form(arguments)
    if arguments.harness is not None:
        return show_harness(arguments, overrides)
    if arguments.tasks is not None:
        if overrides:
            raise SettingsError(f"--tasks takes no settings, got {overrides}")
        return show_answers(arguments)
    if overrides.keys() - {"task"}:
        raise SettingsError(f"`rankwise evaluate` takes settings of the task only, got {overrides}")
    split = arguments.split or SPLIT
    settings, result = score_adapter(
        arguments.run,
        split=split,
        task=arguments.task,
        options=overrides.get("task"),
    )
    scores = ", ".join(f"{name} {value:.4f}" for name, value in result.scores.items())
    invalid = f", {result.invalid} outputs were no answer" if result.invalid else ""
    Console(highlight=False, soft_wrap=True).print(
        f"{arguments.run} on {split} of {settings.task.name}: {scores}, "
        f"loss {result.loss:.4f} ({len(result.labels)} rows{invalid})"
    )
    return 0
