"""What may be claimed, in words that say no more than the intervals allow."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]
NOTHING = "No method could be compared with the baseline on more than one seed."


def verdict(rows: list[Record], *, baseline: str) -> list[str]:
    """Say for each budget which differences from the baseline are shown, and which are not.

    A difference is shown if its interval leaves out zero; the intervals of one budget share the
    error of 5 %. Of what is shown, it is said what holds for other test rows as well.
    """
    budgets = dict.fromkeys(row["budget"] for row in rows)
    sentences = [
        sentence
        for budget in budgets
        for sentence in said_of(
            [row for row in rows if row["budget"] == budget],
            f"Budget {budget}" if budget else "All",
            baseline=baseline,
        )
    ]
    return sentences or [NOTHING]


def said_of(rows: list[Record], group: str, *, baseline: str) -> list[str]:
    """Say the same of one group of rows; nothing where none was compared."""
    compared = [row for row in rows if row["difference_low"] is not None]
    if not compared:
        return []
    better = [row for row in compared if row["difference_low"] > 0]
    worse = [row for row in compared if row["difference_high"] < 0]
    rest = len(compared) - len(better) - len(worse)
    return [
        f"{group}, against {baseline}: shown better: {_listed(better, compared)}; shown worse: "
        f"{_listed(worse, compared)}; no difference shown for {rest} of {len(compared)} methods."
        + _beyond_these_rows(better + worse, compared)
    ]


def _beyond_these_rows(shown: list[Record], rows: list[Record]) -> str:
    """Say which of the differences shown over seeds are shown over test rows too."""
    if not shown or any(row.get("difference_rows_low") is None for row in shown):
        return ""
    wider = [
        row for row in shown if row["difference_rows_low"] > 0 or row["difference_rows_high"] < 0
    ]
    return f" Of these, shown for other test rows too: {_listed(wider, rows)}."


def _listed(chosen: list[Record], rows: list[Record]) -> str:
    return ", ".join(_called(row, rows) for row in chosen) or "none"


def _called(row: Record, rows: list[Record]) -> str:
    """Return a row's name, with its side where others of the same name have another one."""
    sides = {other["side"] for other in rows if other["name"] == row["name"]}
    return row["name"] if len(sides) == 1 else f"{row['name']} ({row['side']})"
