"""The ``boundary`` init (ABM-LoRA) against two models that both run to their ends.

    python benchmarks/abm_init.py [--repetitions 2] [--threads 1] [--tiny]

A Llama of 28 M parameters (hidden 384, 12 layers), LoRA r = 8, 100 steps of 2×64 tokens, the last
6 of 12 blocks monitored. The peer holds a frozen copy of the model and runs student and copy to
their ends in every step. Both begin from the same factors and have to show the same losses.
Memory is the peak of a fresh process from before the model is built, with what the libraries
allocate once left out; beside the 28 M also for 170 M parameters (hidden 1024), where the model is
more of it and a step less.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import peft
import torch
from measuring import (
    Options,
    Row,
    Target,
    measured,
    megabytes,
    of,
    peak_beyond,
    print_rows,
    read_options,
    take_turns,
    verdict_of,
)
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from rankwise.functional.boundary import boundary_layer_weights, boundary_loss
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize

LR, MARGIN = 3e-4, 0.5
Batches = list[dict[str, Tensor]]


@dataclass(frozen=True)
class Size:
    """A decoder, the second half of whose blocks is monitored, and how long it is matched."""

    width: int = 384
    heads: int = 6
    blocks: int = 12
    vocabulary: int = 8000
    steps: int = 100
    length: int = 64

    @property
    def monitored(self) -> int:
        return self.blocks // 2


WIDE = Size(width=1024, heads=8)
TINY = Size(width=16, heads=2, blocks=2, vocabulary=50, steps=5, length=4)


def main(words: Sequence[str] | None = None) -> None:
    """Print the rows."""
    print_rows("boundary init", rows(read_options(words, 2)))


def rows(options: Options) -> list[Row]:
    """Compare memory, time and losses."""
    size, wide = (TINY, TINY) if options.is_tiny else (Size(), WIDE)
    return [*(_memory_row(each, options) for each in (size, wide)), *_time_rows(size, options)]


def _time_rows(size: Size, options: Options) -> list[Row]:
    cases = {"once": _batches(size, size.steps), "5 times": _batches(size, size.steps // 5)}
    start = _student(size).state_dict()
    losses: dict[str, list[float]] = {}

    def run(name: str, batches: Batches) -> None:
        model = _student(size)
        model.load_state_dict(start)
        losses[name] = (_peer if name.startswith("peer") else _ours)(model, batches, size)

    steps = {
        f"{who} {case}": lambda who=who, case=case, batches=batches: run(f"{who} {case}", batches)
        for case, batches in cases.items()
        for who in ("ours", "peer")
    }
    targets = {
        case: Target(of(f"ours {case}", to=f"peer {case}"), at_most)
        for case, at_most in (("once", 0.9), ("5 times", 0.7))
    }
    turns = take_turns(steps, options=options, targets=targets.values(), is_warm=True)
    found = []
    for case, target in targets.items():
        mine, theirs = torch.tensor(losses[f"ours {case}"]), torch.tensor(losses[f"peer {case}"])
        gap = ((mine - theirs).abs() / theirs).max().item()
        what = f"time of {size.steps} steps, each sample seen {case}"
        ours = f"losses within {gap:.0e} of the peer's"
        met = target.verdict(turns) if gap < 1e-3 else "no"
        ratio = str(target.ratio(turns))
        found.append(Row(what, ours, "two models", "-", ratio, str(target), met))
    return found


def peak(name: str, size: Size) -> int:
    """Return the peak of some steps, building the model included."""
    torch.set_num_threads(1)

    def run(size: Size) -> None:
        (_peer if name == "peer" else _ours)(_student(size), _batches(size, 5), size)

    few = replace(size, steps=5)
    run(replace(few, width=48))  # what the libraries allocate once
    return peak_beyond(lambda: run(few))


def _memory_row(size: Size, options: Options) -> Row:
    ours, peer = (measured(options, peak, name, size) for name in ("ours", "peer"))
    value = ours / peer if peer else 0.0
    cells = (megabytes(ours), megabytes(peer), "-", f"{value:.2f}", "≤ 0.6")
    what = f"memory, model included, hidden {size.width}"
    return Row(what, *cells, verdict_of(value, 0.6))


def _student(size: Size) -> peft.PeftModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=size.width * 11 // 4,
        num_hidden_layers=size.blocks,
        num_attention_heads=size.heads,
    )
    lora = LoraConfig(r=8, target_modules="all-linear")
    return peft.get_peft_model(LlamaForCausalLM(config), lora)  # type: ignore[return-value]


def _batches(size: Size, number: int) -> Batches:
    generator = torch.Generator().manual_seed(1)
    return [
        {"input_ids": torch.randint(size.vocabulary, (2, size.length), generator=generator)}
        for _ in range(number)
    ]


def _ours(model: peft.PeftModel, batches: Batches, size: Size) -> list[float]:
    init = BoundaryMatching(margin=MARGIN, steps=size.steps, lr=LR, last=size.monitored)
    return list(initialize(model, init, batches).outcome.losses)


def _peer(model: peft.PeftModel, batches: Batches, size: Size) -> list[float]:
    reference = copy.deepcopy(model.get_base_model()).requires_grad_(False).eval()
    for module in reference.modules():
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(False)
    model.eval()
    taps = {id(each): _Inputs(each, size.monitored) for each in (model, reference)}
    weights = boundary_layer_weights(size.monitored)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR)
    losses = []
    for step in range(size.steps):
        batch = batches[step % len(batches)]
        with torch.no_grad():
            reference(**batch)
        model(**batch)
        loss = boundary_loss(
            taps[id(model)].take(), taps[id(reference)].take(), margin=MARGIN, layer_weights=weights
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


class _Inputs:
    """Keeps the inputs of the last activation modules of one model."""

    def __init__(self, model: nn.Module, monitored: int) -> None:
        self._inputs: list[Tensor] = []
        modules = [each for each in model.modules() if type(each).__name__.startswith("SiLU")]
        for module in modules[-monitored:]:
            module.register_forward_pre_hook(lambda _, inputs: self._inputs.append(inputs[0]))

    def take(self) -> list[Tensor]:
        inputs, self._inputs = self._inputs, []
        return inputs


if __name__ == "__main__":
    main()
