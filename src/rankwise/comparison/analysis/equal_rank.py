"""The view at equal rank, beside the one at equal budget: each r against the baseline of that r.

Papers compare at one rank, where methods train different numbers of parameters. Both views come
from the same runs.
"""

from __future__ import annotations

from rankwise.comparison.analysis.contrast import Scored
from rankwise.comparison.analysis.verdict import statements
from rankwise.comparison.records import ComparedRow, EqualRank, SummaryRow


def equal_ranks(scored: Scored) -> list[EqualRank]:
    """Return one entry for each r at which the baseline and another method were scored.

    Differences are from the baseline of that r, and the methods of the r are a group.
    """
    ranks = sorted({row.r for row in scored.rows if row.is_scored and row.r is not None})
    entries = [_entry(scored, r) for r in ranks]
    return [entry for entry in entries if entry is not None]


def _entry(scored: Scored, r: int) -> EqualRank | None:
    of_rank = [i for i, row in enumerate(scored.rows) if row.is_scored and row.r == r]
    bases = [i for i in of_rank if scored.rows[i].name == scored.baseline]
    others = [i for i in of_rank if scored.rows[i].name != scored.baseline]
    if not bases or not others:
        return None
    found = scored.differences([(i, bases[0]) for i in others])
    rows = [_row(scored.rows[bases[0]])] + [
        _row(scored.rows[i]).model_copy(update=fields)
        for i, fields in zip(others, found, strict=True)
    ]
    rows.sort(key=lambda row: -(row.score_mean or 0.0))
    verdict = statements(rows, f"Rank {r}", baseline=scored.baseline)
    return EqualRank(r=r, rows=tuple(rows), verdict=tuple(verdict))


def _row(row: SummaryRow) -> ComparedRow:
    """Return the row without what it is beside the baseline of its budget."""
    return ComparedRow(
        **row.identity.model_dump(),
        trainable_parameters=row.trainable_parameters,
        score_mean=row.score_mean,
    )
