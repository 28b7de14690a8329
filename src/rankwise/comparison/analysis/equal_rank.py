"""The view at equal rank, beside the one at equal budget: each r against the baseline of that r.

Papers compare at one rank, where methods train different numbers of parameters. Both views come
from the same runs.
"""

from __future__ import annotations

from typing import Any

from rankwise.comparison.analysis.statistics import paired_difference
from rankwise.comparison.analysis.verdict import said_of

Record = dict[str, Any]
_SHOWN = ("name", "r", "side", "budget", "trainable_parameters", "score_mean")


def equal_ranks(rows: list[Record], *, baseline: str) -> list[Record]:
    """Return one entry for each r at which the baseline and another method were scored.

    An entry has ``r``, its ``rows``, best first, with their differences from the baseline of that
    r (95 %, Student's t over seeds, shared by the methods of the r), and a ``verdict``.
    """
    scored = [row for row in rows if row["status"] == "ok" and row["r"] is not None]
    ranks = sorted({row["r"] for row in scored})
    entries = [_entry(r, [row for row in scored if row["r"] == r], baseline) for r in ranks]
    return [entry for entry in entries if entry is not None]


def _entry(r: int, rows: list[Record], baseline: str) -> Record | None:
    base = next((row for row in rows if row["name"] == baseline), None)
    others = [row for row in rows if row["name"] != baseline]
    if base is None or not others:
        return None
    shown: list[Record] = [
        {key: base[key] for key in _SHOWN}
        | dict.fromkeys(("difference_mean", "difference_low", "difference_high"))
    ]
    for row in others:
        difference = paired_difference(row["scores"], base["scores"], comparisons=len(others))
        shown.append(
            {key: row[key] for key in _SHOWN}
            | {
                "difference_mean": difference.mean,
                "difference_low": difference.low,
                "difference_high": difference.high,
            }
        )
    shown.sort(key=lambda row: -row["score_mean"])
    return {"r": r, "rows": shown, "verdict": said_of(shown, f"Rank {r}", baseline=baseline)}
