"""Turning an adapter into a plain LoRA: closed form against ``peft.convert_to_lora``.

    python benchmarks/export.py [--repetitions 3] [--threads 1] [--tiny]

One layer of 2048 × 2048: DeLoRA with r = 8, which leaves with rank 16, and a chain of 16 blocks of
r = 8, which leaves with rank 128. PEFT decomposes the dense change and is asked for the same ranks.
Timed are both conversions in memory; ``export_lora`` also writes the directory and reads it back.
Errors are ‖B A − ΔW‖ / ‖ΔW‖, against the change that the layer makes (float32) and against its
formula in float64.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import peft
import torch
from measuring import (
    Options,
    Row,
    Step,
    Target,
    Verdict,
    of,
    print_rows,
    read_options,
    take_turns,
    verdict_of,
)
from peft import LoraConfig, PeftModel
from torch import Tensor, nn

from rankwise.export.lora import export_lora
from rankwise.functional.delora import delora_delta
from rankwise.methods.adapters.bridge import adapted_layers, delta, factors
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.chain.chain import Chain

RANK, ERROR = 8, 1e-6
NAME = "base_model.model.0"


@dataclass(frozen=True)
class Size:
    """The side of a layer, and the blocks of a chain on it."""

    side: int = 2048
    blocks: int = 16


TINY = Size(side=48, blocks=2)


def main(words: Sequence[str] | None = None) -> None:
    """Print the rows."""
    print_rows("export", rows(read_options(words, 3)))


def rows(options: Options) -> list[Row]:
    """Compare conversions of a DeLoRA layer and of a chain, times and errors."""
    torch.manual_seed(0)
    size, found = TINY if options.is_tiny else Size(), []
    for what, model, exact, rank in (delora(size), chain(size)):
        steps: dict[str, Step] = {
            "ours": lambda model=model: closed_form(model),
            "PEFT": lambda model=model, rank=rank: converted(model, rank),
        }
        target = Target(of("ours", to="PEFT"), 0.01)
        turns = take_turns(steps, options=options, targets=[target])
        value = str(target.ratio(turns))
        cells = (value, "1", "-", value, str(target), target.verdict(turns))
        found.append(Row(f"{what}, time", *cells))
        own = delta(adapted_layers(model)[NAME], "default").detach().double()
        for reference, change, at_most in (("the layer", own, ERROR), ("float64", exact, None)):
            ours, theirs = (error(make, change) for make in steps.values())  # type: ignore[arg-type]
            cells = (f"{ours:.1e}", f"{theirs:.1e}", "-", f"{ours:.1e}")
            wanted: tuple[str, Verdict] = ("-", "-")
            if at_most is not None:
                wanted = (f"≤ {at_most:.0e}", verdict_of(ours, at_most))
            found.append(Row(f"{what}, error against {reference}", *cells, *wanted))
    return [*found, written(size, options)]


def delora(size: Size) -> tuple[str, PeftModel, Tensor, int]:
    """Return a DeLoRA layer in motion and its exact change."""
    config = DeloraConfig(r=RANK, delora_lambda=12, target_modules=["0"])
    model = peft.get_peft_model(nn.Sequential(nn.Linear(size.side, size.side)), config)
    layer = adapted_layers(model)[NAME]
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * parameter.data.std(correction=0) * torch.randn_like(parameter)
    parts = [part.detach().double() for part in layer.parts("default")]  # type: ignore[operator]
    A, B, strength, A0, B0, norms = parts
    exact = delora_delta(B, A, strength, norms, B0=B0, A0=A0)
    return f"DeLoRA, {size.side}², rank {2 * RANK}", model, exact, 2 * RANK


def chain(size: Size) -> tuple[str, PeftModel, Tensor, int]:
    """Return a layer amid its 16th block and its exact change."""
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["0"])
    model = peft.get_peft_model(nn.Sequential(nn.Linear(size.side, size.side)), config)
    chain = Chain(model, side="right")
    exact = torch.zeros(size.side, size.side, dtype=torch.float64)
    layer = adapted_layers(model)[NAME]
    for block in range(size.blocks):
        if block:
            chain.fold()
        nn.init.normal_(layer.lora_B["default"].weight, std=0.01)  # type: ignore[index]
        B, A = (layer.lora_B["default"].weight, layer.lora_A["default"].weight)  # type: ignore
        exact += 2 * B.detach().double() @ A.detach().double()
    rank = size.blocks * RANK
    return f"chain of {size.blocks} blocks, {size.side}², rank {rank}", model, exact, rank


@torch.no_grad()
def closed_form(model: PeftModel) -> tuple[Tensor, Tensor]:
    """Return the factors that ``export_lora`` writes."""
    B, A = factors(adapted_layers(model)[NAME], "default")
    return B, A


def converted(model: PeftModel, rank: int) -> tuple[Tensor, Tensor]:
    """Return the factors that PEFT finds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Converting a PEFT adapter to LoRA that is")
        _, tensors = peft.convert_to_lora(model, rank=rank)
    return tensors[f"{NAME}.lora_B.weight"], tensors[f"{NAME}.lora_A.weight"]


def error(make: Callable[[], tuple[Tensor, Tensor]], exact: Tensor) -> float:
    """Return ‖B A − ΔW‖ / ‖ΔW‖."""
    B, A = make()
    return float(torch.linalg.norm(B.double() @ A.double() - exact) / torch.linalg.norm(exact))


def written(size: Size, options: Options) -> Row:
    """Time the whole of ``export_lora``, comparison of what was read back included."""
    _, model, _, rank = delora(size)

    def export() -> None:
        with tempfile.TemporaryDirectory() as folder:
            export_lora(model, Path(folder) / "lora")

    steps: dict[str, Step] = {"ours": export, "PEFT": lambda: converted(model, rank)}
    value = str(Target(of("ours", to="PEFT"), 1).ratio(take_turns(steps, options=options)))
    what = "DeLoRA, export_lora with files and check, time"
    return Row(what, value, "1", "-", value, "-", "-")


if __name__ == "__main__":
    main()
