"""Greedy decoding with an adapter beside the weights, against the bare model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from measuring import Row, Step, Target, of
from torch import Tensor, nn

from gpu_parts.bench import Bench, failure, share, working
from gpu_parts.steps import BLOCKS, LIMIT
from gpu_parts.variants import attach

PROMPT, WRITTEN = 32, 48
NAMES = ("PEFT LoRA", "LoRA, fused", "lora_xs", "delora")


def rows(bench: Bench) -> Iterator[Row]:
    """Measure one prompt, batch 1."""
    shape = bench.largest.cut(min(BLOCKS, bench.largest.blocks))
    model = bench.model(shape)
    model.config.use_cache = True  # type: ignore[union-attr]
    variants, failed = attach(bench, model)
    tokens = bench.tokens(shape, 1, PROMPT, seed=3)[:1]
    steps = {LIMIT: _decode(share(model), tokens)}
    for name, variant in variants.items():
        if name in NAMES:
            steps[name] = _decode(variant.model, tokens)
    good, bad = working(steps)
    for name, error in (failed | bad).items():
        yield failure(f"{shape.name}, decoding, {name}", error)
    turns = bench.take_turns(good)
    for name in good:
        if name != LIMIT:
            value = str(Target(of(name, to=LIMIT), 1).ratio(turns))
            limit = f"{1e3 * turns[0][LIMIT]:.0f} ms"
            what = f"{shape.name}, {WRITTEN} tokens, {name} unmerged"
            yield Row(what, value, "-", limit, value, "-", "-")
    for variant in variants.values():
        if variant.chain is not None:
            variant.chain.finish()


def _decode(model: nn.Module, tokens: Tensor) -> Step:
    model.eval()

    @torch.no_grad()
    def step() -> None:
        model.generate(  # type: ignore[operator]
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=WRITTEN,
            min_new_tokens=WRITTEN,
            do_sample=False,
            pad_token_id=0,
        )

    return step
