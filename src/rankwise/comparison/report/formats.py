"""The table of a comparison as CSV, Markdown and LaTeX, for papers and other programs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rankwise.comparison.records import SummaryRow
from rankwise.comparison.report.columns import Column, columns
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.tables import groups, settings_of
from rankwise.core.outside_text import one_line

Rows = list[list[str]]
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "<": "$<$",
    "–": "--",
}
_MARKDOWN = re.compile(r"([\\|*_`\[\]<>#])")


def as_csv(comparison: Comparison) -> str:
    """Return the table with every number in full, an interval as two columns.

    Empty where nothing was measured.
    """
    shown = columns(comparison)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    headings = [name for column in shown for name in _csv_headings(column, comparison.rows)]
    writer.writerow(["budget", "method", "r", "side", "settings", "status", *headings])
    for row in comparison.rows:
        cells = [cell for column in shown for cell in _csv_cells(column, row, comparison.rows)]
        r = "" if row.r is None else row.r
        writer.writerow(
            [row.budget, row.name, r, row.side or "", settings_of(row), row.status, *cells]
        )
    return text.getvalue()


def as_markdown(comparison: Comparison) -> str:
    """Return the table in Markdown as the page shows it, the best of a budget first."""
    headings, *rows = [[_MARKDOWN.sub(r"\\\1", cell) for cell in row] for row in _shown(comparison)]
    alignment = [":--", ":--", *["--:"] * (len(headings) - 2)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [headings, alignment, *rows])


def as_latex(comparison: Comparison) -> str:
    """Return the table in LaTeX, for the package booktabs."""
    headings, *rows = [
        ["".join(_LATEX.get(letter, letter) for letter in cell) for cell in row]
        for row in _shown(comparison)
    ]
    lines = [rf"\begin{{tabular}}{{ll{'r' * (len(headings) - 2)}}}", r"\toprule"]
    lines += [" & ".join(headings) + r" \\"]
    budget = None
    for row in rows:
        lines += [r"\midrule"] if row[0] != budget else []
        budget = row[0]
        lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "csv": as_csv,
    "markdown": as_markdown,
    "latex": as_latex,
}
"""The formats by the names that a command takes."""


@dataclass(frozen=True)
class Download:
    """A file of the table that a page offers."""

    name: str
    file: str
    kind: str
    text: str


def downloads(comparison: Comparison) -> list[Download]:
    """Return the table in each format."""
    return [
        Download("CSV", "comparison.csv", "text/csv", as_csv(comparison)),
        Download("Markdown", "comparison.md", "text/markdown", as_markdown(comparison)),
        Download("LaTeX", "comparison.tex", "application/x-tex", as_latex(comparison)),
    ]


def _shown(comparison: Comparison) -> Rows:
    """Return the table as texts of one line, its headings first."""
    shown = columns(comparison)
    rows = [["Budget", "Method", *(column.title for column in shown)]]
    for group in groups(comparison, shown):
        for line in group.lines:
            aside = f" {settings_of(line.row)}" if line.row.settings else ""
            failed = " (failed)" if line.row.status == "failed" else ""
            cells = [
                f"{cell.text} ({cell.interval})" if cell.interval else cell.text
                for cell in line.cells
            ]
            rows.append([group.budget, f"{line.row.label}{aside}{failed}", *cells])
    return [[one_line(cell) for cell in row] for row in rows]


def _csv_headings(column: Column, rows: Sequence[SummaryRow]) -> list[str]:
    if not _has_bounds(column, rows):
        return [column.title]
    return [column.title, f"{column.title} low", f"{column.title} high"]


def _csv_cells(column: Column, row: SummaryRow, rows: Sequence[SummaryRow]) -> list[float | str]:
    values = [column.value(row), *(column.bounds(row) if _has_bounds(column, rows) else ())]
    return ["" if value is None else value for value in values]


def _has_bounds(column: Column, rows: Sequence[SummaryRow]) -> bool:
    return any(end is not None for row in rows for end in column.bounds(row))
