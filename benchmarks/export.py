"""Turning an adapter into a plain LoRA: closed form against ``peft.convert_to_lora``.

    python benchmarks/export.py [--repetitions 3] [--threads 1]

One layer of 2048 × 2048: DeLoRA with r = 8, which leaves with rank 16, and a chain of 16 blocks of
r = 8, which leaves with rank 128. PEFT decomposes the dense change and is asked for the same ranks.
Timed are both conversions in memory; ``export_lora`` also writes the directory and reads it back.
Errors are ‖B A − ΔW‖ / ‖ΔW‖, against the change that the layer makes (float32) and against its
formula in float64.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import peft
import torch
from measuring import Row, Step, arguments, print_rows, ratio, take_turns
from peft import LoraConfig, PeftModel
from torch import Tensor, nn

from rankwise.export.lora import export_lora
from rankwise.functional.delora import delora_delta
from rankwise.methods.adapters.bridge import adapted_layers, delta, factors
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.chain.chain import Chain

SIDE, RANK, BLOCKS = 2048, 8, 16
FASTER, ERROR = 100, 1e-6
NAME = "base_model.model.0"


def main() -> None:
    """Print the rows."""
    print_rows("export", rows(arguments(3).repetitions))


def rows(repetitions: int) -> list[Row]:
    """Compare conversions of a DeLoRA layer and of a chain, times and errors."""
    torch.manual_seed(0)
    found = []
    for what, model, exact, rank in (delora(), chain()):
        steps: dict[str, Step] = {
            "ours": lambda model=model: closed_form(model),
            "PEFT": lambda model=model, rank=rank: converted(model, rank),
        }
        value = ratio(take_turns(steps, repetitions=repetitions), "PEFT", to="ours")
        cells = ("1", str(value), "-", f"{value.middle:.0f}", f"≥ {FASTER}")
        found.append(Row(f"{what}, time", *cells, value.high >= FASTER))
        own = delta(adapted_layers(model)[NAME], "default").detach().double()
        for reference, change, target in (("the layer", own, ERROR), ("float64", exact, None)):
            ours, theirs = (error(make, change) for make in steps.values())  # type: ignore[arg-type]
            cells = (f"{ours:.1e}", f"{theirs:.1e}", "-", f"{ours:.1e}")
            wanted = ("-", None) if target is None else (f"≤ {target:.0e}", ours <= target)
            found.append(Row(f"{what}, error against {reference}", *cells, *wanted))
    return [*found, written(repetitions)]


def delora() -> tuple[str, PeftModel, Tensor, int]:
    """Return a DeLoRA layer in motion and its exact change."""
    config = DeloraConfig(r=RANK, delora_lambda=12, target_modules=["0"])
    model = peft.get_peft_model(nn.Sequential(nn.Linear(SIDE, SIDE)), config)
    layer = adapted_layers(model)[NAME]
    for parameter in layer.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * parameter.data.std(correction=0) * torch.randn_like(parameter)
    parts = [part.detach().double() for part in layer.parts("default")]  # type: ignore[operator]
    A, B, strength, A0, B0, norms = parts
    exact = delora_delta(B, A, strength, norms, B0=B0, A0=A0)
    return f"DeLoRA, {SIDE}², rank {2 * RANK}", model, exact, 2 * RANK


def chain() -> tuple[str, PeftModel, Tensor, int]:
    """Return a layer amid its 16th block and its exact change."""
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["0"])
    model = peft.get_peft_model(nn.Sequential(nn.Linear(SIDE, SIDE)), config)
    chain, exact = Chain(model, side="right"), torch.zeros(SIDE, SIDE, dtype=torch.float64)
    layer = adapted_layers(model)[NAME]
    for block in range(BLOCKS):
        if block:
            chain.fold()
        nn.init.normal_(layer.lora_B["default"].weight, std=0.01)  # type: ignore[index]
        B, A = (layer.lora_B["default"].weight, layer.lora_A["default"].weight)  # type: ignore
        exact += 2 * B.detach().double() @ A.detach().double()
    return f"chain of {BLOCKS} blocks, {SIDE}², rank {BLOCKS * RANK}", model, exact, BLOCKS * RANK


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


def written(repetitions: int) -> Row:
    """Time the whole of ``export_lora``, comparison of what was read back included."""
    _, model, _, rank = delora()

    def export() -> None:
        with tempfile.TemporaryDirectory() as folder:
            export_lora(model, Path(folder) / "lora")

    steps: dict[str, Step] = {"ours": export, "PEFT": lambda: converted(model, rank)}
    value = ratio(take_turns(steps, repetitions=repetitions), "PEFT", to="ours")
    what = "DeLoRA, export_lora with files and check, time"
    return Row(what, "1", str(value), "-", f"{value.middle:.1f}", "-", None)


if __name__ == "__main__":
    main()
