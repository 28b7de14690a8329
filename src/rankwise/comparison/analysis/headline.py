"""The finding of a comparison in one sentence, as one would tell a colleague."""

from __future__ import annotations

from collections.abc import Sequence

from rankwise.comparison.analysis.verdict import NOTHING, name_in
from rankwise.comparison.records import ComparedRow, by_budget


def headline(rows: Sequence[ComparedRow], *, baseline: str) -> str:
    """Say what differs significantly from the baseline, budget by budget.

    Of a budget in which one row is alone, such as full fine-tuning's, nothing is said here.
    """
    findings = []
    for budget, group in by_budget(rows).items():
        compared = [row for row in group if row.difference_low is not None]
        if len(group) > 1 and compared:
            findings.append((budget, _finding(compared, baseline)))
    if not findings:
        return NOTHING
    if all(not finding for _, finding in findings):
        return f"No method differs significantly from {baseline}."
    # Budgets of which the same is to be said stand together.
    places: dict[str, list[str]] = {}
    for budget, finding in findings:
        places.setdefault(finding or f"nothing differs from {baseline}", []).append(budget)
    parts = [f"{_place(budgets)} {finding}".strip() for finding, budgets in places.items()]
    # A name keeps its small letter, a sentence does not.
    first, rest = parts[0].split(" ", 1)
    opening = first.capitalize() if first in ("at", "in", "nothing") else first
    return "; ".join((f"{opening} {rest}", *parts[1:])) + "."


def _finding(rows: Sequence[ComparedRow], baseline: str) -> str:
    """Say which rows of one budget differ and by how much; nothing where none does."""
    better = sorted((row for row in rows if row.is_better), key=_difference, reverse=True)
    worse = sorted((row for row in rows if row.is_worse), key=_difference)
    parts = []
    if better:
        verb = "beats" if len(better) == 1 else "beat"
        parts.append(f"{_joined(better, rows)} {verb} {baseline} by {_range(better)}")
    if worse:
        verb = "falls" if len(worse) == 1 else "fall"
        parts.append(f"{_joined(worse, rows)} {verb} behind {baseline} by {_range(worse)}")
    return ", ".join(parts)


def _difference(row: ComparedRow) -> float:
    return row.difference_mean or 0.0


def _range(rows: Sequence[ComparedRow]) -> str:
    sizes = sorted(100 * abs(_difference(row)) for row in rows)
    form = "{:.0f}" if sizes[0] >= 1.95 else "{:.1f}"
    low, high = form.format(sizes[0]), form.format(sizes[-1])
    return f"{low} points" if low == high else f"{low} to {high} points"


def _place(budgets: Sequence[str]) -> str:
    """Say where budgets are: those that are called by numbers are of trainable parameters."""
    numbers = [f"{int(budget):,}" for budget in budgets if budget.isdigit()]
    names = [f"budget {budget}" for budget in budgets if budget and not budget.isdigit()]
    at = f"at {_and(numbers)} parameters" if numbers else ""
    return " and ".join(filter(None, (at, f"in {_and(names)}" if names else "")))


def _joined(chosen: Sequence[ComparedRow], rows: Sequence[ComparedRow]) -> str:
    return _and([name_in(rows, row) for row in chosen])


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
