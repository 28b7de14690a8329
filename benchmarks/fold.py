"""A fold at a chain boundary against a training step on the same model.

    python benchmarks/fold.py [--repetitions 9] [--threads 1] [--tiny]

The model is that of ``training_step.py``. The first fold of a chain is the cheapest, as each sums
all blocks anew; the tenth is shown too. The peer merges a LoRA with PEFT and attaches a new one,
which trains on a base that has drifted by a rounding each time.
"""

from __future__ import annotations

from collections.abc import Sequence

import peft
import torch
from measuring import (
    Options,
    Row,
    Target,
    Turn,
    of,
    print_rows,
    read_options,
    repeat_until_decided,
    seconds,
)
from peft import LoraConfig
from training_step import TARGETS, TINY, Size, encoder, step_of

from rankwise.methods.chain.chain import Chain
from rankwise.methods.optimizer import parameter_groups

FOLDS = 10


def main(words: Sequence[str] | None = None) -> None:
    """Print the rows."""
    print_rows("fold", rows(read_options(words, 9)))


def rows(options: Options) -> list[Row]:
    """Compare the first and the tenth fold and PEFT's way with a step."""
    size = TINY if options.is_tiny else Size()
    targets = {number: Target(of(f"fold {number}", to="step"), 1) for number in (1, FOLDS)}
    _turn(size)  # to warm up
    turns = repeat_until_decided(lambda: _turn(size), options, targets.values())
    peer = Target(of("peer", to="step"), 1).ratio(turns)
    found = []
    for number, target in targets.items():
        value = str(target.ratio(turns))
        what = f"fold {number} of a chain, in training steps"
        cells = (value, f"merge and attach {peer.middle:.2f}", "1", value, str(target))
        found.append(Row(what, *cells, target.verdict(turns)))
    return found


def _turn(size: Size) -> Turn:
    lora = LoraConfig(r=8, target_modules=TARGETS)
    model = peft.get_peft_model(encoder(size), lora)
    with Chain(model, side="right") as chain:
        step = step_of(model, size)
        step()
        times = {"step": seconds(step)}
        optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-4))
        for number in range(1, FOLDS + 1):
            times[f"fold {number}"] = seconds(lambda: chain.fold(optimizer))
    plain = peft.get_peft_model(encoder(size), LoraConfig(r=8, target_modules=TARGETS))

    def merge_and_attach() -> None:
        merged = plain.merge_and_unload()  # type: ignore[operator]
        peft.get_peft_model(merged, LoraConfig(r=8, target_modules=TARGETS))

    return {**times, "peer": seconds(merge_and_attach)}


if __name__ == "__main__":
    main()
