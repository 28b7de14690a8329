"""What a finished chain came to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChainReport:
    """What a finished chain came to.

    Attributes:
        blocks: Blocks it had, the adapter that it found and the last one included.
        rank: Rank of the LoRA that it left.
        errors: Per layer that was compressed to ``final_rank``, its relative Frobenius error.
    """

    blocks: int
    rank: int
    errors: dict[str, float]
