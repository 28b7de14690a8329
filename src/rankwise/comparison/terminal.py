"""The summary for the terminal: a table of 100 columns with a bar for each difference."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from rankwise.comparison.records import Summary, SummaryRow, by_budget
from rankwise.core.outside_text import one_line
from rankwise.pages.writing import points

WIDTH = 100
_BAR = 21
_BAR_BESIDE_PAPER = 15
_LONGEST_NAME = 26
_LONGEST_BESIDE_PAPER = 22
_LEFT = ("method", "")


def summary_table(summary: Summary) -> Table:
    """Return one row a method, grouped by budget; a failed method says so.

    The bar shows the difference from the baseline with its interval, on one scale for all: ``│`` is
    the baseline, ``●`` a significant difference and ``○`` one that is not.
    """
    baseline = one_line(summary.protocol.baseline)
    has_published = any(row.published is not None for row in summary.methods)
    table = Table(
        title=f"{one_line(summary.subject)}: learning rate chosen on validation, test read once",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    headings = ["method", "trained", "lr", "test", *(["paper"] if has_published else [])]
    for heading in (*headings, f"against {baseline}"[:24], ""):
        table.add_column(heading, justify="left" if heading in _LEFT else "right", no_wrap=True)
    scale = _scale(summary.methods)
    for budget, rows in by_budget(summary.methods).items():
        table.add_section()
        if budget:
            table.add_row(Text(f"budget {one_line(budget)}", style="bold"))
        for row in rows:
            cells = _cells(row, has_published=has_published)
            width = _BAR_BESIDE_PAPER if has_published else _BAR
            # As text, because a name may hold what Rich would read as its markup.
            texts = [Text(one_line(cell)) for cell in cells]
            if len(texts) + 1 == len(table.columns):
                texts.append(Text(_bar(row, scale, width=width)))
            table.add_row(*texts)
    return table


def remarks(summary: Summary) -> list[str]:
    """Return one sentence for each method that could not be scored, and for each warning."""
    sentences = []
    for row in summary.methods:
        sentences += [] if row.error is None else [f"{row.label} failed: {row.error}"]
        sentences += [f"{row.label}: {text}" for text in row.warnings]
    return sentences


def tuning(summary: Summary) -> list[str]:
    """Say what choosing has cost: the same for all methods where their grids are of one size."""
    tuned = [row for row in summary.methods if row.tuning_runs]
    if not tuned:
        return []
    runs = [row.tuning_runs for row in tuned]
    few, many = min(runs), max(runs)
    told = f"{few}" if few == many else f"{few} to {many}"
    seconds = sum(row.tuning_seconds for row in tuned)
    dropped = sum(len(row.dropped) for row in tuned)
    left = f"; {dropped} settings left the race before its end" if dropped else ""
    return [f"tuning: {told} runs a method, {seconds:.0f} s of runs in all{left}"]


def _cells(row: SummaryRow, *, has_published: bool) -> list[str]:
    rank = "" if row.r is None else f" r={row.r}"
    side = f" {row.side}" if row.side else ""
    longest = _LONGEST_BESIDE_PAPER if has_published else _LONGEST_NAME
    room = longest - len(rank) - len(side)
    name = row.name if len(row.name) <= room else f"{row.name[: room - 1]}…"
    head = f"{name}{rank}{side}"
    if not row.is_scored:
        return [head, "failed"]
    return [
        head,
        _count(row.trainable_parameters),
        _written(row.learning_rate, "g"),
        _written(row.score_mean, "z.3f"),
        *([_written(row.published, "z.3f")] if has_published else []),
        _difference(row),
    ]


def _written(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _count(number: int | None) -> str:
    if number is None or number < 1_000_000:
        return "" if number is None else f"{number:,d}"
    return f"{number / 1e6:.4g} M" if number < 1e9 else f"{number / 1e9:.4g} G"


def _difference(row: SummaryRow) -> str:
    if row.difference_mean is None:
        return ""
    if row.difference_low is None:
        return f"{points(row.difference_mean)} (one seed)"
    return (
        f"{points(row.difference_mean)} ({points(row.difference_low)} to "
        f"{points(row.difference_high)})"
    )


def _scale(rows: Sequence[SummaryRow]) -> float:
    """Return the difference at either end of a bar."""
    ends = [end for row in rows for end in (row.difference_low, row.difference_high)]
    means = [row.difference_mean for row in rows]
    return max((abs(each) for each in (*ends, *means) if each is not None), default=0.0) or 1.0


def _bar(row: SummaryRow, scale: float, *, width: int) -> str:
    """Draw a difference and its interval around the middle of a bar."""
    mean, low, high = row.difference_mean, row.difference_low, row.difference_high
    if mean is None:
        return ""
    middle = width // 2

    def place(value: float) -> int:
        return middle + round(value / scale * middle)

    cells = [" "] * width
    if low is not None and high is not None:
        cells[place(low) : place(high) + 1] = "─" * (place(high) - place(low) + 1)
    cells[middle] = "│" if cells[middle] == " " else "┼"
    cells[place(mean)] = "●" if row.is_significant else "○"
    return "".join(cells).rstrip()
