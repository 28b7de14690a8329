"""A fold at a chain boundary against a training step on the same model.

    python benchmarks/fold.py [--repetitions 9] [--threads 1]

The model is that of ``training_step.py``. The first fold of a chain is the cheapest, as each sums
all blocks anew; the tenth is shown too. The peer merges a LoRA with PEFT and attaches a new one,
which trains on a base that has drifted by a rounding each time.
"""

from __future__ import annotations

import peft
import torch
from measuring import Ratio, Row, arguments, met, print_rows, ratio, seconds
from peft import LoraConfig
from training_step import TARGETS, encoder, step_of

from rankwise.methods.chain.chain import Chain
from rankwise.methods.optimizer import parameter_groups

FOLDS = 10


def main() -> None:
    """Print the rows."""
    print_rows("fold", rows(arguments(9).repetitions))


def rows(repetitions: int) -> list[Row]:
    """Compare the first and the tenth fold and PEFT's way with a step."""
    turns = [_turn() for _ in range(repetitions + 1)][1:]
    peer = ratio(turns, "peer", to="step")
    found = []
    for number in (1, FOLDS):
        value: Ratio = ratio(turns, f"fold {number}", to="step")
        what = f"fold {number} of a chain, in training steps"
        cells = (str(value), f"merge and attach {peer.middle:.2f}", "1", str(value), "≤ 1")
        found.append(Row(what, *cells, met(value, 1)))
    return found


def _turn() -> dict[str, float]:
    lora = LoraConfig(r=8, target_modules=TARGETS)
    model = peft.get_peft_model(encoder(), lora)
    with Chain(model, side="right") as chain:
        step = step_of(model)
        step()
        times = {"step": seconds(step)}
        optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-4))
        for number in range(1, FOLDS + 1):
            times[f"fold {number}"] = seconds(lambda: chain.fold(optimizer))
    plain = peft.get_peft_model(encoder(), LoraConfig(r=8, target_modules=TARGETS))

    def merge_and_attach() -> None:
        merged = plain.merge_and_unload()  # type: ignore[operator]
        peft.get_peft_model(merged, LoraConfig(r=8, target_modules=TARGETS))

    return {**times, "peer": seconds(merge_and_attach)}


if __name__ == "__main__":
    main()
