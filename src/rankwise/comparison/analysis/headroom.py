"""The headroom of a task: what full fine-tuning, tuned by itself, has above the baseline.

Where none is shown, no method can be shown to close it.
"""

from __future__ import annotations

from rankwise.comparison.analysis.contrast import Scored
from rankwise.comparison.records import ComparedRow


def headroom(scored: Scored) -> list[ComparedRow]:
    """Return full fine-tuning beside the baseline of each budget; nothing where it was not run.

    The budgets are a group.
    """
    rows = [(i, row) for i, row in enumerate(scored.rows) if row.is_scored]
    full = next(((i, row) for i, row in rows if row.r is None), None)
    bases = [i for i, row in rows if row.name == scored.baseline and row.r is not None]
    if full is None or not bases:
        return []
    found = scored.differences([(full[0], base) for base in bases])
    return [
        ComparedRow(
            name=full[1].name,
            budget=scored.rows[base].budget,
            trainable_parameters=full[1].trainable_parameters,
            score_mean=full[1].score_mean,
            **fields,
        )
        for base, fields in zip(bases, found, strict=True)
    ]
