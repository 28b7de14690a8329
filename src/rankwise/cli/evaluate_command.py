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
    Console(highlight=False).print(
        f"{settings.name} on {arguments.split}: {result.score:.4f} "
        f"({sum(result.correct)} of {len(result.correct)}), loss {result.loss:.4f}"
    )
    return 0
