"""What a comparison found, on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from rankwise.comparison.table import TABLE_WIDTH, failures, summary_table


def show_summary(summary: dict[str, Any], *files: Path) -> None:
    """Print the table, what failed, the verdict, and where the files are."""
    console = Console(highlight=False)
    console.width = max(console.width, TABLE_WIDTH)
    console.print(summary_table(summary))
    for sentence in (*failures(summary), *summary["verdict"]):
        console.print(sentence)
    console.print(f"written: {', '.join(str(file) for file in files)}")
