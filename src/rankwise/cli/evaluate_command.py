"""``rankwise evaluate``: the score of a run on a split, again."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from rankwise.training.scoring import open_run, score_split


def run(arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Score the run's trained model on the split that ``arguments.split`` names."""
    settings, folder = open_run(arguments.run)
    result = score_split(settings, folder, split=arguments.split)
    scores = ", ".join(f"{name} {value:.4f}" for name, value in result.scores.items())
    invalid = f", {result.invalid} outputs were no answer" if result.invalid else ""
    Console(highlight=False).print(
        f"{settings.name} on {arguments.split}: {scores}, loss {result.loss:.4f} "
        f"({len(result.labels)} rows{invalid})"
    )
    return 0
