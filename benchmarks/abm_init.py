"""The ``boundary`` init (ABM-LoRA) against two models that both run to their ends.

    python benchmarks/abm_init.py [--repetitions 2] [--threads 1]

A Llama of 28 M parameters (hidden 384, 12 layers), LoRA r = 8, 100 steps of 2×64 tokens, the last
6 of 12 blocks monitored. The peer holds a frozen copy of the model and runs student and copy to
their ends in every step. Both begin from the same factors and have to show the same losses.
Memory is the peak of a fresh process from before the model is built, with what the libraries
allocate once left out; beside the 28 M also for 170 M parameters (hidden 1024), where the model is
more of it and a step less.
"""

from __future__ import annotations

import copy

import peft
import torch
from measuring import (
    Row,
    arguments,
    in_fresh_process,
    megabytes,
    met,
    peak_beyond,
    print_rows,
    ratio,
    take_turns,
)
from peft import LoraConfig
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from rankwise.functional.boundary import boundary_layer_weights, boundary_loss
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize

STEPS, MONITORED, BLOCKS, LR, MARGIN = 100, 6, 12, 3e-4, 0.5
VOCABULARY, WIDTH, WIDE = 8000, 384, 1024
Batches = list[dict[str, Tensor]]


def main() -> None:
    """Print the rows."""
    print_rows("boundary init", rows(arguments(2).repetitions))


def rows(repetitions: int) -> list[Row]:
    """Compare memory, time and losses."""
    once, often = _batches(STEPS), _batches(STEPS // 5)
    start = _student().state_dict()
    losses: dict[str, list[float]] = {}

    def run(name: str, batches: Batches) -> None:
        model = _student()
        model.load_state_dict(start)
        losses[name] = (_peer if name.startswith("peer") else _ours)(model, batches, STEPS)

    cases = {"once": once, "5 times": often}
    steps = {
        f"{who} {case}": lambda who=who, case=case, batches=batches: run(f"{who} {case}", batches)
        for case, batches in cases.items()
        for who in ("ours", "peer")
    }
    turns = take_turns(steps, repetitions=repetitions, is_warm=True)
    found = [_memory_row(width) for width in (WIDTH, WIDE)]
    for case, target in (("once", 0.9), ("5 times", 0.7)):
        value = ratio(turns, f"ours {case}", to=f"peer {case}")
        mine, theirs = torch.tensor(losses[f"ours {case}"]), torch.tensor(losses[f"peer {case}"])
        gap = ((mine - theirs).abs() / theirs).max().item()
        what = f"time of {STEPS} steps, each sample seen {case}"
        ours = f"losses within {gap:.0e} of the peer's"
        is_met = met(value, target) and gap < 1e-3
        found.append(Row(what, ours, "two models", "-", str(value), f"≤ {target}", is_met))
    return found


def peak(name: str, width: int) -> int:
    """Return the peak of some steps, building the model included."""
    torch.set_num_threads(1)

    def run(width: int) -> None:
        (_peer if name == "peer" else _ours)(_student(width), _batches(5), 5)

    run(48)  # what the libraries allocate once
    return peak_beyond(lambda: run(width))


def _memory_row(width: int) -> Row:
    ours, peer = (in_fresh_process(peak, name, width) for name in ("ours", "peer"))
    value = ours / peer
    cells = (megabytes(ours), megabytes(peer), "-", f"{value:.2f}", "≤ 0.6")
    return Row(f"memory, model included, hidden {width}", *cells, value <= 0.6)


def _student(width: int = WIDTH) -> peft.PeftModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=BLOCKS,
        num_attention_heads=8 if width == WIDE else 6,
    )
    lora = LoraConfig(r=8, target_modules="all-linear")
    return peft.get_peft_model(LlamaForCausalLM(config), lora)  # type: ignore[return-value]


def _batches(number: int) -> Batches:
    generator = torch.Generator().manual_seed(1)
    return [
        {"input_ids": torch.randint(VOCABULARY, (2, 64), generator=generator)}
        for _ in range(number)
    ]


def _ours(model: peft.PeftModel, batches: Batches, steps: int) -> list[float]:
    init = BoundaryMatching(margin=MARGIN, steps=steps, lr=LR, last=MONITORED)
    return list(initialize(model, init, batches).outcome.losses)


def _peer(model: peft.PeftModel, batches: Batches, steps: int) -> list[float]:
    reference = copy.deepcopy(model.get_base_model()).requires_grad_(False).eval()
    for module in reference.modules():
        if hasattr(module, "disable_adapters"):
            module._disable_adapters = True
    model.eval()
    taps = {id(each): _Inputs(each) for each in (model, reference)}
    weights = boundary_layer_weights(MONITORED)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR)
    losses = []
    for step in range(steps):
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

    def __init__(self, model: nn.Module) -> None:
        self._inputs: list[Tensor] = []
        modules = [each for each in model.modules() if type(each).__name__.startswith("SiLU")]
        for module in modules[-MONITORED:]:
            module.register_forward_pre_hook(lambda _, inputs: self._inputs.append(inputs[0]))

    def take(self) -> list[Tensor]:
        inputs, self._inputs = self._inputs, []
        return inputs


if __name__ == "__main__":
    main()
