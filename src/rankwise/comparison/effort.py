"""What the runs of a table would take: steps, memory, and hours on a given GPU.

A training step multiplies each token with all weights three times: forward, and backward for the
inputs and for the weights; of frozen weights the last is left out. A product of n numbers with a
token takes 2 n operations, so a token costs 4 or 6 operations a weight. Hours are these, at the
share of the GPU's peak that trainers commonly reach, with every text as long as it may be: an upper
estimate of training alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Dense peak in 10¹² operations a second: in bfloat16 (or float16, where there is none) and in
# float32 as PyTorch multiplies it by default. From NVIDIA's data sheets.
GPUS = {
    "h200": (989.0, 67.0),
    "h100": (989.0, 67.0),
    "a100": (312.0, 19.5),
    "l4": (121.0, 30.3),
    "rtx4090": (165.0, 82.6),
    "t4": (65.0, 8.1),
}
UTILISATION = 0.4
_FROZEN, _TRAINED = 4, 6


@dataclass(frozen=True)
class Effort:
    """Of the runs of one method on one task.

    Attributes:
        runs: How many there are if no grid of rates is widened.
        steps: Optimizer steps of one run.
        state_bytes: Of one run; activations come on top.
        seconds: Of all runs, one after the other.
    """

    runs: int
    steps: int
    state_bytes: int
    seconds: float


def training_seconds(
    *, weights: int, tokens: int, gpu: str, is_full: bool, in_bfloat16: bool
) -> float:
    """Return the seconds of training on ``tokens`` tokens, all epochs together."""
    operations = (_TRAINED if is_full else _FROZEN) * weights * tokens
    peak = GPUS[gpu][0 if in_bfloat16 else 1]
    return operations / (peak * 1e12 * UTILISATION)


def tokens_of_row(task: Any) -> int:
    """Return the most tokens of a row: its longest text, a ViT's patches, or a vector of pixels."""
    if (length := getattr(task, "max_length", None)) is not None:
        return length
    return 1 if getattr(task, "hidden", None) or task.name == "digits" else 197
