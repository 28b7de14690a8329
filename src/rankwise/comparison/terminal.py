"""The summary as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

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


def summary_table(summary: dict[str, Any]) -> Table:
    """Return one row a method, grouped by budget; a failed method says so.

    ``steps`` and ``s to it`` (initialization included) are those until the mean validation score is
    that of the baseline at its end; ``all s`` are those of all runs of the method's sweep.
    """
    table = Table(
        title=f"{summary['task']}: learning rate chosen on validation, test read once",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    has_published = any(row.get("published") is not None for row in summary["methods"])
    for column in (*_COLUMNS, *(["paper"] if has_published else [])):
        table.add_column(column, justify="left" if column in _LEFT else "right", no_wrap=True)
    for budget in dict.fromkeys(row["budget"] for row in summary["methods"]):
        table.add_section()
        group = [row for row in summary["methods"] if row["budget"] == budget]
        for position, row in enumerate(group):
            table.add_row("" if position else budget, *_cells(row))
    return table


def remarks(summary: dict[str, Any]) -> list[str]:
    """Return one sentence for each method that could not be scored, and for each warning."""
    sentences = []
    for row in summary["methods"]:
        failed = [] if row["status"] == "ok" else [row["status"]]
        sentences += [f"{row['name']} (r={_rank(row)}) {text}" for text in failed]
        sentences += [f"{row['name']} (r={_rank(row)}): {text}" for text in row["warnings"]]
    return sentences


def _rank(row: dict[str, Any]) -> str:
    return "–" if row["r"] is None else str(row["r"])


def _cells(row: dict[str, Any]) -> list[str]:
    head = [row["name"], _rank(row), row["side"] or ""]
    if row["status"] != "ok":
        return [*head, "failed"]
    return [
        *head,
        f"{row['trainable_parameters']:,}",
        f"{row['stored_bytes']:,}",
        f"{row['learning_rate']:g}",
        f"{row['score_validation']:.3f}",
        f"{row['score_mean']:.3f}",
        _interval(row),
        f"{row['init_seconds']:.2f}",
        f"{row['train_seconds']:.2f}",
        "never" if row["steps_to_baseline"] is None else str(row["steps_to_baseline"]),
        "" if row.get("seconds_to_baseline") is None else f"{row['seconds_to_baseline']:.2f}",
        f"{row['sweep_seconds']:.1f}",
        *([] if row.get("published") is None else [f"{row['published']:.3f}"]),
    ]


def _interval(row: dict[str, Any]) -> str:
    if row["score_low"] is None:
        return "one seed"
    return f"{row['score_low']:.3f} – {row['score_high']:.3f}"
