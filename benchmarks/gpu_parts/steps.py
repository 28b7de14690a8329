"""Training steps: autocast and plain bfloat16, with and without checkpointing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from measuring import Row, Step, Target, of, verdict_of
from torch import Tensor, nn

from gpu_parts.bench import (
    Bench,
    Shape,
    failure,
    guarded,
    own_mebibytes,
    parameters,
    share,
    working,
)
from gpu_parts.variants import PEFT_DELORA, PEFT_LORA, Variant, attach

LIMIT = "frozen pass"
ROWS, LENGTH, BLOCKS = 4, 1024, 8


@dataclass(frozen=True)
class Mode:
    """A way to train."""

    has_autocast: bool
    has_checkpoints: bool

    def __str__(self) -> str:
        precision = "autocast" if self.has_autocast else "plain"
        return f"{precision}, checkpointing" if self.has_checkpoints else precision


MODES = [Mode(has_autocast=a, has_checkpoints=c) for c in (False, True) for a in (True, False)]
# Of steps under autocast at the largest width: times the frozen pass, times PEFT LoRA's peak.
TIMES = {"lora_xs": 1.10, "delora": 1.20}
OTHERS, PEAK_OF_CORE, PEAK = 1.13, 0.72, 0.88


def rows(bench: Bench) -> Iterator[Row]:
    """Measure each shape in each mode, the largest first."""
    for shape in reversed(bench.shapes):
        cut = shape.cut(min(BLOCKS, shape.blocks))
        yield from guarded(f"{cut.name}, steps", lambda cut=cut: _of_shape(bench, cut))
        bench.free()


def _of_shape(bench: Bench, shape: Shape) -> Iterator[Row]:
    model = bench.model(shape)
    variants, failed = attach(bench, model)
    for name, error in failed.items():
        yield failure(f"{shape.name}, {name}", error)
    for mode in MODES:
        what = f"{shape.name}, {mode}"
        yield from guarded(what, lambda mode=mode: _of_mode(bench, shape, model, variants, mode))
    for variant in variants.values():
        if variant.chain is not None:
            variant.chain.finish()


def _of_mode(
    bench: Bench, shape: Shape, model: nn.Module, variants: Mapping[str, Variant], mode: Mode
) -> Iterator[Row]:
    bench.check_time()
    tokens = bench.tokens(shape, ROWS, LENGTH)
    frozen = share(model)
    for each in (frozen, *(variant.model.get_base_model() for variant in variants.values())):
        _set_checkpointing(each, is_on=mode.has_checkpoints)
    steps = {LIMIT: frozen_pass(bench, frozen, tokens, mode)}
    for name, variant in variants.items():
        steps[name] = training_step(bench, variant.model, tokens, mode)
    good, bad = working(steps)
    for name, error in bad.items():
        yield failure(f"{shape.name}, {mode}, {name}", error)
    has_targets = mode == MODES[0] and shape.name.startswith(bench.largest.name)
    targets = {name: Target(of(name, to=LIMIT), _at_most(name)) for name in good if name != LIMIT}
    wanted = [t for name, t in targets.items() if has_targets and not name.startswith("PEFT")]
    turns = bench.take_turns(good, wanted)
    peaks = {name: bench.peak(step) for name, step in good.items()}
    for name in targets:
        peaks[name] += own_mebibytes(variants[name].model, list(model.parameters()))
    for name, target in targets.items():
        is_ours = has_targets and not name.startswith("PEFT")
        time = str(target.ratio(turns))
        peer = PEFT_DELORA if name == "delora" else PEFT_LORA
        theirs = f"{peer} {targets[peer].ratio(turns)}" if peer in targets else "-"
        limit = f"{1e3 * min(turn[LIMIT] for turn in turns):.1f} ms"
        goal = (str(target), target.verdict(turns)) if is_ours else ("-", "-")
        yield Row(f"{shape.name}, {mode}, {name}: time", time, theirs, limit, time, *goal)
        yield _peak_row(f"{shape.name}, {mode}, {name}: peak", name, peaks, is_ours)


def _peak_row(what: str, name: str, peaks: Mapping[str, float], has_target: bool) -> Row:
    peer = peaks.get(PEFT_LORA, 0.0)
    if not peer:  # no GPU, or no peer
        return Row(what, "-", "-", "-", "-", "-", "-")
    value, at_most = peaks[name] / peer, PEAK_OF_CORE if "xs" in name else PEAK
    cells = (f"{peaks[name]:.0f} MiB", f"{PEFT_LORA} {peer:.0f} MiB", f"{peaks[LIMIT]:.0f} MiB")
    goal = (f"≤ {at_most:g}", verdict_of(value, at_most)) if has_target else ("-", "-")
    return Row(what, *cells, f"{value:.3f}", *goal)


def _at_most(name: str) -> float:
    return next((t for key, t in TIMES.items() if name.startswith(key)), OTHERS)


def _set_checkpointing(model: Any, *, is_on: bool) -> None:
    # Transformers 5.23 gave the methods of before another name.
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    if is_on:
        getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
    else:
        getattr(model, f"{name}_checkpointing_disable")()


def frozen_pass(bench: Bench, model: nn.Module, tokens: Tensor, mode: Mode) -> Step:
    """Forward and backward without an adapter, down to the embeddings: the limit."""
    embed = model.get_input_embeddings()  # type: ignore[operator]
    embeddings = embed(tokens).detach().requires_grad_(True)

    def step() -> None:
        with bench.autocast(mode.has_autocast):
            loss = model(inputs_embeds=embeddings, labels=tokens).loss
        loss.backward()
        embeddings.grad = None

    return step


def training_step(bench: Bench, model: nn.Module, tokens: Tensor, mode: Mode) -> Step:
    """Forward, backward down to the embeddings as in the limit, and AdamW."""
    embed = model.get_input_embeddings()  # type: ignore[operator]
    embeddings = embed(tokens).detach().requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters(model), lr=1e-4, fused=bench.device == "cuda")

    def step() -> None:
        with bench.autocast(mode.has_autocast):
            loss = model(inputs_embeds=embeddings, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        embeddings.grad = None

    return step
