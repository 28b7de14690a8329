"""The summary as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

_COLUMNS = (
    "method",
    "r",
    "side",
    "budget",
    "trained",
    "stored",
    "lr",
    "validation",
    "test (95 % interval)",
    "init s",
    "train s",
    "steps to baseline",
)


def summary_table(summary: dict[str, Any]) -> Table:
    """Return one row a method, grouped by budget; a failed method says why."""
    table = Table(title=f"{summary['task']}: score on test, chosen on validation", pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("method", "side") else "right")
    previous = None
    for row in summary["methods"]:
        if previous is not None and row["budget"] != previous:
            table.add_section()
        previous = row["budget"]
        table.add_row(*_cells(row))
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    head = [row["name"], str(row["r"]), row["side"] or "", row["budget"]]
    if row["status"] != "ok":
        return [*head, "", "", "", "", row["status"]]
    return [
        *head,
        f"{row['trainable_parameters']:,}",
        f"{row['stored_bytes']:,} B",
        f"{row['learning_rate']:g}",
        f"{row['score_validation']:.3f}",
        _score(row),
        f"{row['init_seconds']:.2f}",
        f"{row['train_seconds']:.2f}",
        "never" if row["steps_to_baseline"] is None else str(row["steps_to_baseline"]),
    ]


def _score(row: dict[str, Any]) -> str:
    if row["score_low"] is None:
        return f"{row['score_mean']:.3f}"
    return f"{row['score_mean']:.3f} [{row['score_low']:.3f}, {row['score_high']:.3f}]"
