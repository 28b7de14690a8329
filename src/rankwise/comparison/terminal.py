"""The summary as a table for the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from rankwise.core.outside_text import one_line
from rankwise.training.records import Summary, SummaryRow

_COLUMNS = (
    "budget",
    "method",
    "r",
    "side",
    "trained",
    "bytes",
    "lr",
    "valid.",
    "test",
    "95 % interval",
    "init s",
    "train s",
    "steps",
    "s to it",
    "all s",
)
_LEFT = ("budget", "method", "side")


def summary_table(summary: Summary) -> Table:
    """Return one row a method, grouped by budget; a failed method says so.

    ``steps`` and ``s to it`` (initialization included) are those until the mean validation score is
    that of the baseline at its end; ``all s`` are those of all runs of the method's sweep.
    """
    table = Table(
        title=f"{one_line(summary.task)}: learning rate chosen on validation, test read once",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    has_published = any(row.published is not None for row in summary.methods)
    for column in (*_COLUMNS, *(["paper"] if has_published else [])):
        table.add_column(column, justify="left" if column in _LEFT else "right", no_wrap=True)
    for budget in dict.fromkeys(row.budget for row in summary.methods):
        table.add_section()
        group = [row for row in summary.methods if row.budget == budget]
        for position, row in enumerate(group):
            cells = ["" if position else budget, *_cells(row)]
            # As text, because a name may hold what Rich would read as its markup.
            table.add_row(*(Text(one_line(cell)) for cell in cells))
    return table


def remarks(summary: Summary) -> list[str]:
    """Return one sentence for each method that could not be scored, and for each warning."""
    sentences = []
    for row in summary.methods:
        sentences += [] if row.error is None else [f"{row.label} failed: {row.error}"]
        sentences += [f"{row.label}: {text}" for text in row.warnings]
    return sentences


def _cells(row: SummaryRow) -> list[str]:
    head = [row.name, "–" if row.r is None else str(row.r), row.side or ""]
    if not row.is_scored:
        return [*head, "failed"]
    return [
        *head,
        _written(row.trainable_parameters, ",d"),
        _written(row.stored_bytes, ",d"),
        _written(row.learning_rate, "g"),
        _written(row.score_validation, ".3f"),
        _written(row.score_mean, ".3f"),
        _interval(row),
        _written(row.init_seconds, ".2f"),
        _written(row.train_seconds, ".2f"),
        "never" if row.steps_to_baseline is None else str(row.steps_to_baseline),
        _written(row.seconds_to_baseline, ".2f"),
        _written(row.sweep_seconds, ".1f"),
        *([] if row.published is None else [_written(row.published, ".3f")]),
    ]


def _written(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _interval(row: SummaryRow) -> str:
    if row.score_low is None or row.score_high is None:
        return "one seed"
    return f"{row.score_low:.3f} – {row.score_high:.3f}"
