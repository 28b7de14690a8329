"""The ``update`` init (LoRA-SB) against the frozen model's forward and backward pass.

    python benchmarks/update_init.py [--repetitions 3] [--threads 1] [--tiny]

A Llama of 170 M parameters (hidden 1024, 12 layers), r = 32 on all linear layers. Memory is the
peak beyond that of a frozen forward and backward pass over one batch of the same shape, without
the factors themselves. Peers are PEFT's ``lora_ga`` and all gradients at once in ``weight.grad``,
decomposed by the same routine. Growth: the same ratio at four widths, with two layers.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import peft
import torch
from measuring import (
    Options,
    Ratio,
    Row,
    Step,
    Target,
    Turn,
    measured,
    megabytes,
    of,
    peak_beyond,
    print_rows,
    read_options,
    seconds,
    take_turns,
    verdict_of,
)
from peft import LoraConfig
from peft.tuners.lora import LoraGAConfig
from peft.tuners.lora.loraga import preprocess_loraga
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from rankwise.capture.gradients import capture_gradients
from rankwise.functional.update import update_factors
from rankwise.methods.adapters.bridge import adapted_layers
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.adapters.switching import active_adapter
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation

LR = 1e-4
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Batches = list[dict[str, Tensor]]
Shapes = tuple[tuple[int, int], ...]  # rows and tokens of each batch


@dataclass(frozen=True)
class Size:
    """A decoder, a rank, and a batch that is taken whole or in two halves."""

    width: int = 1024
    blocks: int = 12
    heads: int = 8
    vocabulary: int = 8000
    rank: int = 32
    rows: int = 4
    length: int = 128
    budget: int = 60_000_000  # bytes for the accumulators, where there are two batches
    widths: tuple[int, ...] = (256, 512, 1024, 2048)  # for growth; the second and the last count

    @property
    def whole(self) -> Shapes:
        return ((self.rows, self.length),)

    @property
    def halves(self) -> Shapes:
        return ((self.rows // 2, self.length),) * 2


TINY = Size(
    width=16, blocks=1, heads=2, vocabulary=50, rank=2, length=4, budget=6000, widths=(8, 16)
)


def main(words: Sequence[str] | None = None) -> None:
    """Print the rows of memory, time and growth."""
    print_rows("update init", rows(read_options(words, 3)))


def rows(options: Options) -> list[Row]:
    """Compare memory, time and growth."""
    size = TINY if options.is_tiny else Size()
    rows = [*memory_rows(size, options), *time_rows(size, options)]
    return [*rows, attach_row(size, options), growth_row(size, options)]


def memory_rows(size: Size, options: Options) -> list[Row]:
    """Compare peaks, each from a process of its own."""
    found = []
    cases = (
        (f"one batch of {size.rows}×{size.length}", size.whole, None),
        (f"two batches of {size.rows // 2}×{size.length}", size.halves, size.budget),
    )
    for title, shapes, budget in cases:
        limit = measured(options, peak, "frozen", size, shapes[:1], None)
        ours = measured(options, peak, "ours", size, shapes, budget) - limit
        peers = [measured(options, peak, name, size, shapes, None) for name in ("lora_ga", "all")]
        lora_ga, gradients = (peer - limit for peer in peers)
        at_most = (budget or 0) + 60_000_000
        found.append(
            Row(
                f"extra memory, {title}" + (f", {megabytes(budget)} set" if budget else ""),
                megabytes(ours),
                f"lora_ga {megabytes(lora_ga)}, all gradients {megabytes(gradients)}",
                f"{megabytes(limit)} in all",
                f"{ours / lora_ga:.2f}" if lora_ga else "-",
                f"≤ {megabytes(at_most)}",
                verdict_of(ours, at_most),
            )
        )
    return found


def time_rows(size: Size, options: Options) -> list[Row]:
    """Compare the time of one batch."""
    names = ("frozen", "ours", "ours raw", "gradients alone")
    steps = {name: _step(name, *_prepared(name, size), size) for name in names}
    targets = {
        "sign": Target(of("ours", to="frozen"), 1.9),
        "raw": Target(of("ours raw", to="frozen"), 1.25),
    }
    turns = take_turns(steps, options=options, targets=targets.values())
    del steps
    gc.collect()
    peers = {name: _peer_time(name, size) for name in ("lora_ga", "all")}
    peer = f"lora_ga {peers['lora_ga'].middle:.2f}, all gradients {peers['all'].middle:.2f}"
    gradients = Target(of("gradients alone", to="frozen"), 1).ratio(turns)
    alone = f"weight gradients alone {gradients.middle:.2f}"
    found = []
    for mode, target in targets.items():
        ratio, met = str(target.ratio(turns)), target.verdict(turns)
        found.append(
            Row(f"time of one batch, {mode} mode", "-", peer, alone, ratio, str(target), met)
        )
    return found


def attach_row(size: Size, options: Options) -> Row:
    """Compare the time of attaching LoRA-XS as it comes and initialising it from one batch."""
    steps = {name: _step(name, *_prepared(name, size), size) for name in ("frozen", "attached")}
    target = Target(of("attached", to="frozen"), 2.0)
    turns = take_turns(steps, options=options, targets=[target])
    ratio = str(target.ratio(turns))
    what = "time of attaching and of one batch, sign mode"
    return Row(what, "-", "-", "-", ratio, str(target), target.verdict(turns))


def growth_row(size: Size, options: Options) -> Row:
    """Compare the ratio to the forward and backward pass over the widths."""
    steps = {}
    for width in size.widths:
        small = replace(size, width=width, blocks=2)
        for name in ("frozen", "ours"):
            steps[f"{name} {width}"] = _step(name, *_prepared(name, small), small)

    def relative(width: int) -> Target:
        return Target(of(f"ours {width}", to=f"frozen {width}"), math.inf)

    def growth(turn: Turn) -> float:
        return relative(size.widths[-1]).of(turn) / relative(size.widths[1]).of(turn)

    target = Target(growth, 1)
    turns = take_turns(steps, options=options, targets=[target])
    ratios = {width: relative(width).ratio(turns).middle for width in size.widths}
    text = ", ".join(f"{width}: {ratio:.2f}" for width, ratio in ratios.items())
    value = f"{size.widths[-1]} / {size.widths[1]}: {target.ratio(turns)}"
    what = "growth of its time with width, beside forward and backward"
    return Row(what, text, "dense SVD: cubic", "-", value, str(target), target.verdict(turns))


def peak(name: str, size: Size, shapes: Shapes, budget: int | None) -> int:
    """Return the peak of one run, without the factors where the run makes them."""
    torch.set_num_threads(1)
    model, batches = _prepared(name, size, shapes)
    _step("frozen", model, [_batch(size, 1, 2)], size)()  # what the libraries allocate once
    return peak_beyond(_step(name, model, batches, size, budget)) - (
        _factor_bytes(model, size) if name in ("lora_ga", "all") else 0
    )


def _peer_time(name: str, size: Size) -> Ratio:
    model, batches = _prepared(name, size)
    frozen = _step("frozen", model, batches, size)
    seconds(frozen)
    return Ratio.of([seconds(_step(name, model, batches, size)) / seconds(frozen)])


def _prepared(name: str, size: Size, shapes: Shapes | None = None) -> tuple[nn.Module, Batches]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=size.width * 11 // 4,
        num_hidden_layers=size.blocks,
        num_attention_heads=size.heads,
    )
    model: nn.Module = LlamaForCausalLM(config).requires_grad_(False).eval()
    if name.startswith("ours") or name == "gradients alone":
        adapter = LoraXSConfig(r=size.rank, target_modules=TARGETS, init_weights=False)
        model = peft.get_peft_model(model, adapter)  # type: ignore[arg-type]
    shapes = shapes or size.whole
    return model, [_batch(size, *shape, seed=seed) for seed, shape in enumerate(shapes)]


def _batch(size: Size, rows: int, length: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(size.vocabulary, (rows, length), generator=generator)
    return {"input_ids": tokens, "labels": tokens}


def _step(
    name: str, model: nn.Module, batches: Batches, size: Size, budget: int | None = None
) -> Step:
    def frozen() -> None:
        _backward_to_the_embeddings(model, batches)

    def ours() -> None:
        mode = "raw" if name.endswith("raw") else "sign"
        init = UpdateApproximation(lr=LR, mode=mode, gradient_memory=budget)
        initialize(model, init, batches)

    def attached() -> None:
        adapter = LoraXSConfig(r=size.rank, target_modules=TARGETS)
        adapted: Any = peft.get_peft_model(model, adapter)  # type: ignore[arg-type]
        initialize(adapted, UpdateApproximation(lr=LR), batches)
        adapted.unload()

    def gradients_alone() -> None:
        layers = {key: layer.get_base_layer() for key, layer in adapted_layers(model).items()}
        with active_adapter(model, None):
            capture_gradients(model, layers, batches=batches, consume=lambda *_: None)

    def all_gradients() -> list[tuple[Tensor, ...]]:
        named = model.named_modules()
        layers: list[Any] = [m for key, m in named if key.rpartition(".")[2] in TARGETS]
        for layer in layers:
            layer.weight.requires_grad_(True)
        for batch in batches:
            model(**batch).loss.backward()
        return [update_factors(layer.weight.grad, r=size.rank, lr=LR) for layer in layers]

    def lora_ga() -> None:
        config = LoraConfig(
            r=size.rank,
            target_modules=TARGETS,
            init_lora_weights="lora_ga",  # type: ignore[arg-type]
            lora_ga_config=LoraGAConfig(),
        )

        def train_step() -> None:
            for batch in batches:
                model(**batch).loss.backward()

        preprocess_loraga(model, config, train_step)
        peft.get_peft_model(model, config)  # type: ignore[arg-type]

    return {
        "frozen": frozen,
        "ours": ours,
        "ours raw": ours,
        "attached": attached,
        "gradients alone": gradients_alone,
        "all": all_gradients,
        "lora_ga": lora_ga,
    }[name]


def _backward_to_the_embeddings(model: nn.Module, batches: Batches) -> None:
    embed = model.get_input_embeddings()  # type: ignore[operator]
    for batch in batches:
        embeddings = embed(batch["input_ids"]).detach().requires_grad_(True)
        model(inputs_embeds=embeddings, labels=batch["labels"]).loss.backward()


def _factor_bytes(model: nn.Module, size: Size) -> int:
    layers = [m for key, m in model.named_modules() if isinstance(m, nn.Linear)]
    of_targets = [m.weight.shape for m in layers if min(m.weight.shape) > size.rank]
    return sum(4 * size.rank * sum(shape) for shape in of_targets if size.vocabulary not in shape)


if __name__ == "__main__":
    main()
