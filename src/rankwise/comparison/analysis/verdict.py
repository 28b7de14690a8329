"""What may be claimed, in words that say no more than the intervals allow."""

from __future__ import annotations

from collections.abc import Sequence

from rankwise.training.records import ComparedRow

NOTHING = "No method could be compared with the baseline on more than one seed."


def verdict(rows: Sequence[ComparedRow], *, baseline: str) -> list[str]:
    """Say for each budget which differences from the baseline are significant, and which are not.

    A difference is significant if its interval leaves out zero; the intervals of one budget share
    the error of 5 %. Of what is significant, it is said what holds for other test rows as well.
    """
    budgets = dict.fromkeys(row.budget for row in rows)
    sentences = [
        sentence
        for budget in budgets
        for sentence in statements(
            [row for row in rows if row.budget == budget],
            f"Budget {budget}" if budget else "All",
            baseline=baseline,
        )
    ]
    return sentences or [NOTHING]


def statements(rows: Sequence[ComparedRow], group: str, *, baseline: str) -> list[str]:
    """Say the same of one group of rows; nothing where none was compared."""
    compared = [row for row in rows if row.difference_low is not None]
    if not compared:
        return []
    better = [row for row in compared if is_better(row)]
    worse = [row for row in compared if is_worse(row)]
    rest = len(compared) - len(better) - len(worse)
    return [
        f"{group}, against {baseline}: significantly better: {_listed(better, compared)}; "
        f"significantly worse: {_listed(worse, compared)}; no significant difference for {rest} of "
        f"{len(compared)} methods." + _beyond_these_rows(better + worse, compared)
    ]


def is_better(row: ComparedRow) -> bool:
    """Say whether a row is significantly better than the baseline."""
    return row.difference_low is not None and row.difference_low > 0


def is_worse(row: ComparedRow) -> bool:
    """Say whether a row is significantly worse than the baseline."""
    return row.difference_high is not None and row.difference_high < 0


def _beyond_these_rows(significant: Sequence[ComparedRow], rows: Sequence[ComparedRow]) -> str:
    """Say which of the differences over seeds are significant over test rows too."""
    if not significant or any(row.difference_rows_low is None for row in significant):
        return ""
    wider = [row for row in significant if _holds_for_other_rows(row)]
    return f" Of these, significant over other test rows too: {_listed(wider, rows)}."


def _holds_for_other_rows(row: ComparedRow) -> bool:
    low, high = row.difference_rows_low, row.difference_rows_high
    return low is not None and high is not None and (low > 0 or high < 0)


def _listed(chosen: Sequence[ComparedRow], rows: Sequence[ComparedRow]) -> str:
    return ", ".join(_name(row, rows) for row in chosen) or "none"


def _name(row: ComparedRow, rows: Sequence[ComparedRow]) -> str:
    """Return a row's name, with its side where others of the same name have another one."""
    sides = {other.side for other in rows if other.name == row.name}
    return row.name if len(sides) == 1 else f"{row.name} ({row.side})"
