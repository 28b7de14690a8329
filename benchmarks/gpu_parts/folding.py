"""Folds of a chain against a training step."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from measuring import Row, Target, Turn, of, repeat_until_decided
from torch import nn

import rankwise
from gpu_parts.bench import Bench, guarded, parameters, share
from gpu_parts.steps import BLOCKS, LENGTH, MODES, ROWS, training_step
from gpu_parts.variants import chained

AT_MOST = {"cpu": 1.0, "device": 0.3}  # training steps, by where W₀ is kept


def rows(bench: Bench) -> Iterator[Row]:
    """Measure folds with W₀ in main memory and on the device."""
    shape = bench.largest.cut(min(BLOCKS, bench.largest.blocks))
    model = bench.model(shape)
    tokens = bench.tokens(shape, ROWS, LENGTH)
    for place, at_most in AT_MOST.items():
        what = f"{shape.name}, a fold, W₀ on the {place}"
        yield from guarded(
            what,
            lambda what=what, place=place, at_most=at_most: _folds(
                bench, model, tokens, what, place, at_most
            ),
        )
        bench.free()


def _folds(
    bench: Bench, model: nn.Module, tokens: torch.Tensor, what: str, place: str, at_most: float
) -> Iterator[Row]:
    bench.check_time()
    is_known = "base_device" in inspect.signature(rankwise.Chain).parameters
    if not is_known and place == "device":
        yield Row(what, "no option base_device", "-", "-", "-", f"≤ {at_most:g}", "-")
        return
    options: dict[str, Any] = {"base_device": place} if is_known else {}
    variant = chained(share(model), bench.ranks[0], "left", **options)
    chain = variant.chain
    assert chain is not None
    optimizer = torch.optim.AdamW(parameters(variant.model), lr=1e-4)
    step = training_step(bench, variant.model, tokens, MODES[0])
    try:
        step()
        chain.fold(optimizer)

        def turn() -> Turn:
            return {
                "step": bench.seconds(step),
                "fold": bench.seconds(lambda: chain.fold(optimizer)),
            }

        target = Target(of("fold", to="step"), at_most)
        turns = repeat_until_decided(turn, bench.options, [target])
    finally:
        chain.finish()
    value, limit = str(target.ratio(turns)), f"{1e3 * turns[0]['step']:.1f} ms"
    yield Row(f"{what}: steps", value, "-", limit, value, str(target), target.verdict(turns))
