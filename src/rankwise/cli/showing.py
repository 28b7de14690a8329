"""Tables on the terminal, and what a comparison found."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from rankwise.comparison.terminal import remarks, summary_table
from rankwise.training.records import Summary


def add_columns(
    table: Table, headings: Iterable[str], *, texts: Collection[str], no_wrap: bool = False
) -> None:
    """Add a column a heading: those in ``texts`` begin at the left, numbers end at the right."""
    for heading in headings:
        table.add_column(heading, justify="left" if heading in texts else "right", no_wrap=no_wrap)


def show_table(table: Table) -> None:
    """Print the table; where the terminal is too narrow its lines wrap, and no cell is cut."""
    console = Console(highlight=False)
    unbounded = console.options.update(width=1000)
    width = Measurement.get(console, unbounded, table).maximum
    Console(highlight=False, width=max(console.width, width)).print(table)


def show_summary(summary: Summary, *files: Path) -> None:
    """Print the table, what is to be said of it, the verdict, and where the files are."""
    console = Console(highlight=False)
    show_table(summary_table(summary))
    for sentence in (*remarks(summary), *summary.verdict):
        console.print(sentence, markup=False)
    console.print(f"written: {', '.join(str(file) for file in files)}", markup=False)
