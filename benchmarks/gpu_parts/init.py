"""Inits of a whole model: the first update from one batch, activation boundaries in 100 steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from measuring import Row, Step, Target, Verdict, of, verdict_of
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraGAConfig
from peft.tuners.lora.loraga import preprocess_loraga
from torch import nn

import rankwise
from gpu_parts.bench import TARGETS, Bench, guarded, share
from gpu_parts.steps import LIMIT, Mode, frozen_pass
from gpu_parts.variants import core, lora

ROWS, LENGTH, MATCHED_LENGTH, MATCHED_BATCHES = 4, 512, 256, 10
EXTRA_MEBIBYTES = 1024.0
PLAIN = Mode(has_autocast=False, has_checkpoints=False)


def rows(bench: Bench) -> Iterator[Row]:
    """Measure the inits of the largest shape, all of its blocks."""
    model = bench.model(bench.largest)
    for r, passes in zip(bench.ranks, (6, 10), strict=True):
        for mode in ("sign", "raw"):
            what = f"{bench.largest.name}, update init, {mode}, r={r}"
            yield from guarded(
                what,
                lambda what=what, r=r, mode=mode, passes=passes: _update(
                    bench, model, what, r, mode, passes
                ),
            )
            bench.free()
    yield from guarded("boundary init", lambda: _boundary(bench, model))
    bench.free()
    # Last, as it moves the weights that all variants share.
    yield from guarded("PEFT's lora_ga", lambda: _lora_ga(bench, model))


def _limit(bench: Bench, model: nn.Module) -> Step:
    tokens = bench.tokens(bench.largest, ROWS, LENGTH)
    return frozen_pass(bench, share(model), tokens, PLAIN)


def _update(
    bench: Bench, model: nn.Module, what: str, r: int, mode: Any, passes: int
) -> Iterator[Row]:
    bench.check_time()
    tokens = bench.tokens(bench.largest, ROWS, LENGTH)
    batch, adapted = {"input_ids": tokens, "labels": tokens}, core(share(model), r)
    init = rankwise.UpdateApproximation(lr=1e-4, mode=mode)
    steps = {
        LIMIT: _limit(bench, model),
        "ours": lambda: rankwise.initialize(adapted, init, [batch]),
    }
    for step in steps.values():
        step()
    target = Target(of("ours", to=LIMIT), passes)
    turns = bench.take_turns(steps, [target])
    value, limit = str(target.ratio(turns)), f"{1e3 * turns[0][LIMIT]:.0f} ms"
    yield Row(f"{what}: passes", value, "-", limit, value, str(target), target.verdict(turns))
    peaks = {name: bench.peak(step) for name, step in steps.items()}
    extra = peaks["ours"] - peaks[LIMIT]
    cells = (f"{extra:.0f} MiB", "-", f"{peaks[LIMIT]:.0f} MiB", "-")
    met: Verdict = verdict_of(extra, EXTRA_MEBIBYTES)
    yield Row(f"{what}: memory beyond a pass", *cells, f"≤ {EXTRA_MEBIBYTES:.0f} MiB", met)


def _lora_ga(bench: Bench, model: nn.Module) -> Iterator[Row]:
    bench.check_time()
    r = bench.ranks[0]
    tokens, limit = bench.tokens(bench.largest, ROWS, LENGTH), _limit(bench, model)
    limit()

    def init() -> None:
        bare = share(model)
        config = LoraConfig(
            r=r,
            target_modules=TARGETS,
            init_lora_weights="lora_ga",  # type: ignore[arg-type]
            lora_ga_config=LoraGAConfig(),
        )
        preprocess_loraga(
            bare, config, lambda: bare(input_ids=tokens, labels=tokens).loss.backward()
        )  # type: ignore[arg-type]
        get_peft_model(bare, config)  # type: ignore[arg-type]

    turn = {"theirs": bench.seconds(init), LIMIT: bench.seconds(limit)}
    value = str(Target(of("theirs", to=LIMIT), 1).ratio([turn]))
    extra = bench.peak(init) - bench.peak(limit)
    what = f"{bench.largest.name}, PEFT's lora_ga, r={r}"
    yield Row(f"{what}: passes", "-", value, f"{1e3 * turn[LIMIT]:.0f} ms", value, "-", "-")
    yield Row(f"{what}: memory beyond a pass", "-", f"{extra:.0f} MiB", "-", "-", "-", "-")


class _StoppedError(Exception):
    """A forward pass has come as far as it should."""


def _boundary(bench: Bench, model: nn.Module) -> Iterator[Row]:
    bench.check_time()
    steps, shape = 2 if bench.options.is_tiny else 100, bench.largest
    tokens = [
        bench.tokens(shape, ROWS, MATCHED_LENGTH, seed=seed) for seed in range(MATCHED_BATCHES)
    ]
    batches = [{"input_ids": each, "attention_mask": torch.ones_like(each)} for each in tokens]
    adapted = lora(share(model), bench.ranks[0])
    init = rankwise.BoundaryMatching(margin=0.5, steps=steps)

    def ours() -> None:
        rankwise.initialize(adapted, init, batches)

    one = _cut_pass(share(model), tokens[0])
    one()

    def passes() -> None:
        for _ in range(steps):
            one()

    turn = {"ours": bench.seconds(ours), LIMIT: bench.seconds(passes)}
    target = Target(of("ours", to=LIMIT), 1.2)
    value, limit = str(target.ratio([turn])), f"{turn[LIMIT]:.2f} s"
    what = f"{shape.name}, boundary init, {steps} steps of {ROWS}×{MATCHED_LENGTH}: cut passes"
    yield Row(what, value, "-", limit, value, str(target), target.verdict([turn]))


def _cut_pass(model: nn.Module, tokens: torch.Tensor) -> Step:
    """Forward and backward between the embeddings and the last activation of an MLP."""
    embed = model.get_input_embeddings()  # type: ignore[operator]
    embeddings = embed(tokens).detach().requires_grad_(True)
    seen: list[torch.Tensor] = []

    def stop(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[0])
        raise _StoppedError

    last = [m for name, m in model.named_modules() if name.endswith(".mlp.act_fn")][-1]
    last.register_forward_pre_hook(stop)

    def step() -> None:
        try:
            model(inputs_embeds=embeddings)
        except _StoppedError:
            seen.pop().float().square().mean().backward()
        embeddings.grad = None

    return step
