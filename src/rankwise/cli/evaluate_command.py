"""``rankwise evaluate``: the score of a run or of an adapter directory on a split of a task.

With ``--tasks`` its model answers benchmarks instead.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rankwise.cli.answering_options import SPLIT, add_questions, check_form
from rankwise.cli.arguments import existing_folder
from rankwise.cli.showing import say

SECTIONS = ("task",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, the split, and the questions that can be asked instead."""
    parser.add_argument(
        "run", type=Path, help="the folder of a run, OUTPUT/runs/NAME, or an adapter directory"
    )
    parser.add_argument("--task", help="such as glue/mrpc (default: the run's own)")
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), help="(default: validation)"
    )
    add_questions(parser)


def run(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Score the model that ``arguments.run`` names on ``arguments.split``, or ask it."""
    check_form(arguments)
    existing_folder(arguments.run)
    if arguments.harness is not None:
        from rankwise.cli.harness import show_harness

        return show_harness(arguments, overrides)
    if arguments.tasks is not None:
        from rankwise.cli.answering import show_answers

        return show_answers(arguments, overrides)
    return _show_score(arguments, overrides.get("task"))


def _show_score(arguments: argparse.Namespace, options: dict[str, Any] | None) -> int:
    from rankwise.training.evaluating import score_adapter

    split = arguments.split or SPLIT
    settings, result = score_adapter(
        arguments.run, split=split, task=arguments.task, options=options
    )
    scores = ", ".join(f"{name} {value:.4f}" for name, value in result.scores.items())
    invalid = f", {result.invalid} outputs were no answer" if result.invalid else ""
    say(
        f"{arguments.run} on {split} of {settings.task.name}: {scores}, "
        f"loss {result.loss:.4f} ({len(result.labels)} rows{invalid})"
    )
    return 0
