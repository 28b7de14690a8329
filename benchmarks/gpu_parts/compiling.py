"""Training steps of compiled models, and how often the graph breaks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from measuring import Row, Target, of
from torch import Tensor, nn

from gpu_parts.bench import Bench, guarded
from gpu_parts.steps import LENGTH, LIMIT, MODES, ROWS, frozen_pass, training_step
from gpu_parts.variants import builders

BLOCKS, NAMES = 2, ("PEFT LoRA", "lora_xs", "delora", "chain, A frozen")


def rows(bench: Bench) -> Iterator[Row]:
    """Measure two blocks of the largest shape."""
    shape = bench.largest.cut(BLOCKS)
    tokens = bench.tokens(shape, ROWS, LENGTH)
    for name in NAMES:
        model = bench.model(shape)
        what = f"{shape.name}, compiled, {name}"
        yield from guarded(
            what,
            lambda model=model, name=name, what=what: _compiled(bench, model, tokens, name, what),
        )
        torch._dynamo.reset()
        bench.free()


def _compiled(
    bench: Bench, model: nn.Module, tokens: Tensor, name: str, what: str
) -> Iterator[Row]:
    bench.check_time()
    limit = frozen_pass(bench, model, tokens, MODES[0])
    limit()
    times = {LIMIT: min(bench.seconds(limit) for _ in range(2))}
    variant = builders(bench)[name](model)
    torch._dynamo.utils.counters.clear()
    # Tiny sizes have no compiler at hand; that dynamo takes every line is what they show.
    backend = "eager" if bench.options.is_tiny else "inductor"
    variant.model.compile(backend=backend)  # type: ignore[operator]
    step = training_step(bench, variant.model, tokens, MODES[0])
    first = bench.seconds(step)
    step()
    turns = [times | dict(turn) for turn in bench.take_turns({name: step})]
    breaks = sum(torch._dynamo.utils.counters["graph_break"].values())
    value = str(Target(of(name, to=LIMIT), 1).ratio(turns))
    ours = f"{breaks} graph breaks, first step {first:.0f} s"
    if variant.chain is not None:
        variant.chain.finish()
    yield Row(what, ours, "-", f"{1e3 * times[LIMIT]:.1f} ms, eager", value, "-", "-")
