"""The view at equal rank, beside the one at equal budget: each r against the baseline of that r.

Papers compare at one rank, where methods train different numbers of parameters. Both views come
from the same runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from rankwise.comparison.analysis.contrast import bounds
from rankwise.comparison.analysis.statistics import paired_difference
from rankwise.comparison.analysis.verdict import statements
from rankwise.training.records import ComparedRow, EqualRank, SummaryRow


def equal_ranks(rows: Sequence[SummaryRow], *, baseline: str) -> list[EqualRank]:
    """Return one entry for each r at which the baseline and another method were scored.

    Differences are from the baseline of that r (95 %, Student's t over seeds, shared by the methods
    of the r).
    """
    scored = [row for row in rows if row.is_scored and row.r is not None]
    ranks = sorted({row.r for row in scored if row.r is not None})
    entries = [_entry(r, [row for row in scored if row.r == r], baseline) for r in ranks]
    return [entry for entry in entries if entry is not None]


def _entry(r: int, rows: Sequence[SummaryRow], baseline: str) -> EqualRank | None:
    base = next((row for row in rows if row.name == baseline), None)
    others = [row for row in rows if row.name != baseline]
    if base is None or not others:
        return None
    shown = [_row(base)]
    for row in others:
        difference = paired_difference(row.scores, base.scores, comparisons=len(others))
        shown.append(_row(row).model_copy(update=bounds("difference", difference)))
    shown.sort(key=lambda row: -(row.score_mean or 0.0))
    verdict = statements(shown, f"Rank {r}", baseline=baseline)
    return EqualRank(r=r, rows=tuple(shown), verdict=tuple(verdict))


def _row(row: SummaryRow) -> ComparedRow:
    """Return the row without what it is beside the baseline of its budget."""
    return ComparedRow(
        **row.identity.model_dump(),
        trainable_parameters=row.trainable_parameters,
        score_mean=row.score_mean,
    )
