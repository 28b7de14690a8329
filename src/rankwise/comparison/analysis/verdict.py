"""What may be claimed, in words that say no more than the tests allow."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rankwise.comparison.records import ComparedRow, by_budget
from rankwise.pages.writing import points

NOTHING = "No method could be compared with the baseline on more than one seed."
FEW_SEEDS = 30
"""Up to so many seeds it is said that more of them would decide."""


def verdict(rows: Sequence[ComparedRow], *, baseline: str) -> list[str]:
    """Say for each budget which differences from the baseline are significant, and which are not.

    A difference is significant if its interval leaves out zero; the methods of one budget share the
    error of 5 %. Of what is significant, it is said what holds for other test rows as well; of the
    rest, what could have been shown.
    """
    sentences = [
        sentence
        for budget, group in by_budget(rows).items()
        for sentence in statements(
            group, f"Budget {budget}" if budget else "All", baseline=baseline
        )
    ]
    return sentences or [NOTHING]


def statements(rows: Sequence[ComparedRow], group: str, *, baseline: str) -> list[str]:
    """Say the same of one group of rows; nothing where none was compared."""
    compared = [row for row in rows if row.difference_low is not None]
    if not compared:
        return []
    better = [row for row in compared if row.is_better]
    worse = [row for row in compared if row.is_worse]
    rest = [row for row in compared if not row.is_significant]
    return [
        f"{group}, against {baseline}: significantly better: {_listed(better, compared)}; "
        f"significantly worse: {_listed(worse, compared)}; no significant difference for "
        f"{len(rest)} of {len(compared)} methods."
        + _beyond_these_rows(better + worse, compared)
        + _power(rest, compared)
    ]


def on_headroom(rows: Sequence[ComparedRow], *, baseline: str) -> list[str]:
    """Say for each budget whether full fine-tuning is above the baseline there."""
    sentences = []
    for row in rows:
        if row.difference_mean is None or row.difference_low is None:
            continue
        place = f" in budget {row.budget}" if row.budget else ""
        relation = "above" if row.difference_mean >= 0 else "below"
        size = points(abs(row.difference_mean)).removeprefix("+")
        between = f"{points(row.difference_low)} to {points(row.difference_high)}"
        consequence = (
            "there is headroom"
            if row.is_better
            else "no headroom is shown, so no method can be shown to catch up"
        )
        sentences.append(
            f"{row.name} is {size} points {relation} {baseline}{place} ({between}): {consequence}."
        )
    return sentences


def _beyond_these_rows(significant: Sequence[ComparedRow], rows: Sequence[ComparedRow]) -> str:
    """Say which of the differences over seeds are significant over test rows too."""
    if not significant or any(row.difference_rows_low is None for row in significant):
        return ""
    wider = [row for row in significant if _holds_for_other_rows(row)]
    return f" Of these, significant over other test rows too: {_listed(wider, rows)}."


def _holds_for_other_rows(row: ComparedRow) -> bool:
    low, high = row.difference_rows_low, row.difference_rows_high
    return low is not None and high is not None and (low > 0 or high < 0)


def _power(rest: Sequence[ComparedRow], rows: Sequence[ComparedRow]) -> str:
    """Say of what is not significant from which difference on it would have been, and when."""
    sizes = [row.detectable_difference for row in rest if row.detectable_difference is not None]
    if not sizes:
        return ""
    size = median(sizes)
    told = (
        f" Of these, a true difference of about {100 * size:.1f} points had a chance of 80 % to be "
        "shown."
        if size < 1
        else " No difference that scores can have had a chance of 80 % to be shown: more seeds or "
        "more test rows are needed."
    )
    near = [
        f"{name_in(rows, row)} ({row.seeds_needed})"
        for row in rest
        if row.seeds_needed is not None and row.seeds_needed <= FEW_SEEDS
    ]
    return told + (f" Worth more seeds: {', '.join(near)}." if near else "")


def _listed(chosen: Sequence[ComparedRow], rows: Sequence[ComparedRow]) -> str:
    return ", ".join(name_in(rows, row) for row in chosen) or "none"


def name_in(rows: Sequence[ComparedRow], row: ComparedRow) -> str:
    """Return a row's name, with its side where others of the same name have another one."""
    sides = {other.side for other in rows if other.name == row.name}
    return row.name if len(sides) == 1 else f"{row.name} ({row.side})"
