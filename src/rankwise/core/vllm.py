"""The ranks of a LoRA that vLLM takes: its option ``max_lora_rank`` is one of a few numbers.

``MaxLoRARanks`` and ``LoRAConfig`` of ``vllm/config/lora.py``, version 0.12.
"""

from __future__ import annotations

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
DEFAULT_RANK = 16
LARGEST_RANK = RANKS[-1]


def max_lora_rank(rank: int) -> int | None:
    """Return the value of the option for a LoRA of ``rank``; None beyond the largest.

    >>> max_lora_rank(24)
    32
    """
    return next((each for each in RANKS if each >= rank), None)
