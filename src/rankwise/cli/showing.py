"""What is printed: sentences, tables, and what a comparison found.

Names, labels and messages come from files and from other machines. They are shown as they are, on
one line: neither Rich's markup nor a control sequence in them is obeyed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from rankwise.comparison.records import Summary
from rankwise.comparison.terminal import remarks, summary_table, tuning
from rankwise.core.outside_text import one_line

# Of a sentence of ours, which may end in a path or in the message of another library.
_LONGEST = 2000


def plain_console(*, width: int | None = None) -> Console:
    """Return a console that shows square brackets as they are and wraps no line of its own."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


def say(*sentences: str) -> None:
    """Print each sentence on a line of its own."""
    console = plain_console()
    for sentence in sentences:
        console.print(one_line(sentence, longest=_LONGEST))


def add_columns(
    table: Table, headings: Iterable[str], *, texts: Collection[str], no_wrap: bool = False
) -> None:
    """Add a column a heading: those in ``texts`` begin at the left, numbers end at the right."""
    for heading in headings:
        table.add_column(heading, justify="left" if heading in texts else "right", no_wrap=no_wrap)


def add_row(table: Table, *cells: str) -> None:
    """Add a row of texts that others may have written."""
    table.add_row(*(Text(one_line(cell)) for cell in cells))


def show_table(table: Table, *, fits: bool = False) -> None:
    """Print the table; where the terminal is too narrow its lines wrap, and no cell is cut.

    With ``fits`` a table of texts is as wide as the terminal, and the texts wrap within it.
    """
    console = plain_console()
    if fits and console.is_terminal:
        Console(highlight=False, markup=False, emoji=False).print(table)
        return
    unbounded = console.options.update(width=1000)
    width = Measurement.get(console, unbounded, table).maximum
    plain_console(width=max(console.width, width)).print(table)


def show_summary(summary: Summary, *files: Path) -> None:
    """Print the headline, the table, what is to be said of it, the verdict, and the files."""
    say(*filter(None, (summary.headline,)))
    show_table(summary_table(summary))
    say(*remarks(summary), *summary.verdict_below, *tuning(summary))
    say(f"written: {', '.join(str(file) for file in files)}")
