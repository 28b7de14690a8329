"""``rankwise export``: a run's adapter as a plain LoRA directory."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from rankwise.training.publishing import publish_lora


def run(arguments: argparse.Namespace, _overrides: dict[str, Any]) -> int:
    """Write the directory and say how near its outputs are to the run's own."""
    published = publish_lora(arguments.run, arguments.output)
    Console(highlight=False).print(
        f"written: {arguments.output}, a plain LoRA of rank {published.lora.rank}; on "
        f"{published.rows} rows the largest difference of an output is "
        f"{published.largest_difference:.1e} of the largest output"
    )
    return 0
