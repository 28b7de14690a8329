"""The ``update`` init (LoRA-SB) against the frozen model's forward and backward pass.

    python benchmarks/update_init.py [--repetitions 3] [--threads 1]

A Llama of 170 M parameters (hidden 1024, 12 layers), r = 32 on all linear layers. Memory is the
peak beyond that of a frozen forward and backward pass over one batch of the same shape, without
the factors themselves. Peers are PEFT's ``lora_ga`` and all gradients at once in ``weight.grad``,
decomposed by the same routine. Growth: the same ratio at four widths, with two layers.
"""

from __future__ import annotations

import gc

import peft
import torch
from measuring import (
    Ratio,
    Row,
    Step,
    arguments,
    in_fresh_process,
    megabytes,
    met,
    peak_beyond,
    print_rows,
    ratio,
    seconds,
    take_turns,
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
from rankwise.methods.adapters.switching import acting
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation

RANK, LR, VOCABULARY = 32, 1e-4, 8000
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ONE_BATCH, TWO_BATCHES = ((4, 128),), ((2, 128), (2, 128))
BUDGET = 60_000_000  # bytes for the accumulators, where there are two batches
WIDTHS = (256, 512, 1024, 2048)
Batches = list[dict[str, Tensor]]


def main() -> None:
    """Print the rows of memory, time and growth."""
    repetitions = arguments(3).repetitions
    print_rows("update init", rows(repetitions))


def rows(repetitions: int) -> list[Row]:
    """Compare memory, time and growth."""
    return [*memory_rows(), *time_rows(repetitions), growth_row(repetitions)]


def memory_rows() -> list[Row]:
    """Compare peaks, each from a process of its own."""
    found = []
    cases = (("one batch of 4×128", ONE_BATCH), ("two batches of 2×128", TWO_BATCHES))
    for title, shapes in cases:
        budget = None if len(shapes) == 1 else BUDGET
        limit = in_fresh_process(peak, "frozen", shapes[:1], None)
        ours = in_fresh_process(peak, "ours", shapes, budget) - limit
        peers = [in_fresh_process(peak, name, shapes, None) - limit for name in ("lora_ga", "all")]
        target = 60_000_000 if budget is None else BUDGET + 60_000_000
        found.append(
            Row(
                f"extra memory, {title}"
                + ("" if budget is None else f", {budget // 10**6} MB set"),
                megabytes(ours),
                f"lora_ga {megabytes(peers[0])}, all gradients {megabytes(peers[1])}",
                f"{megabytes(limit)} in all",
                f"{ours / peers[0]:.2f}",
                f"≤ {megabytes(target)}",
                ours <= target,
            )
        )
    return found


def time_rows(repetitions: int) -> list[Row]:
    """Compare the time of one batch."""
    names = ("frozen", "ours", "ours raw", "gradients alone")
    steps = {name: _step(name, *_prepared(name), None) for name in names}
    turns = take_turns(steps, repetitions=repetitions)
    del steps
    gc.collect()
    peers = {name: _peer_time(name) for name in ("lora_ga", "all")}
    peer = f"lora_ga {peers['lora_ga'].middle:.2f}, all gradients {peers['all'].middle:.2f}"
    alone = f"weight gradients alone {ratio(turns, 'gradients alone', to='frozen').middle:.2f}"
    found = []
    for title, name, target in (("sign", "ours", 1.9), ("raw", "ours raw", 1.25)):
        value = ratio(turns, name, to="frozen")
        what = f"time of one batch, {title} mode"
        found.append(Row(what, "-", peer, alone, str(value), f"≤ {target}", met(value, target)))
    return found


def growth_row(repetitions: int) -> Row:
    """Compare the ratio to the forward and backward pass over the widths."""
    ratios: dict[int, Ratio] = {}
    for width in WIDTHS:
        steps = {
            name: _step(name, *_prepared(name, width=width, depth=2), None)
            for name in ("frozen", "ours")
        }
        ratios[width] = ratio(take_turns(steps, repetitions=repetitions), "ours", to="frozen")
    text = ", ".join(f"{width}: {value.middle:.2f}" for width, value in ratios.items())
    growth = Ratio(
        ratios[2048].low / ratios[512].middle,
        ratios[2048].middle / ratios[512].middle,
        ratios[2048].high / ratios[512].middle,
    )
    what = "growth of its time with width, beside forward and backward"
    return Row(what, text, "dense SVD: cubic", "-", f"2048 / 512: {growth}", "≤ 1", met(growth, 1))


def peak(name: str, shapes: tuple[tuple[int, int], ...], budget: int | None) -> int:
    """Return the peak of one run, without the factors where the run makes them."""
    torch.set_num_threads(1)
    model, batches = _prepared(name, shapes=shapes)
    _step("frozen", model, [_batch(1, 2)], None)()  # what the libraries allocate once
    return peak_beyond(_step(name, model, batches, budget)) - (
        _factor_bytes(model) if name in ("lora_ga", "all") else 0
    )


def _peer_time(name: str) -> Ratio:
    model, batches = _prepared(name)
    frozen = _step("frozen", model, batches, None)
    seconds(frozen)
    turn = {"frozen": seconds(frozen), name: seconds(_step(name, model, batches, None))}
    return ratio([turn], name, to="frozen")


def _prepared(
    name: str,
    *,
    shapes: tuple[tuple[int, int], ...] = ONE_BATCH,
    width: int = 1024,
    depth: int = 12,
) -> tuple[nn.Module, Batches]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=depth,
        num_attention_heads=8,
    )
    model: nn.Module = LlamaForCausalLM(config).requires_grad_(False).eval()
    if name.startswith("ours") or name == "gradients alone":
        adapter = LoraXSConfig(r=RANK, target_modules=TARGETS, init_weights=False)
        model = peft.get_peft_model(model, adapter)  # type: ignore[arg-type]
    return model, [_batch(*shape, seed=seed) for seed, shape in enumerate(shapes)]


def _batch(rows: int, length: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCABULARY, (rows, length), generator=generator)
    return {"input_ids": tokens, "labels": tokens}


def _step(name: str, model: nn.Module, batches: Batches, budget: int | None) -> Step:
    def frozen() -> None:
        _backward_to_the_embeddings(model, batches)

    def ours() -> None:
        mode = "raw" if name.endswith("raw") else "sign"
        init = UpdateApproximation(lr=LR, mode=mode, gradient_memory=budget)
        initialize(model, init, batches)

    def gradients_alone() -> None:
        layers = {key: layer.get_base_layer() for key, layer in adapted_layers(model).items()}
        with acting(model, None):
            capture_gradients(model, layers, batches=batches, consume=lambda *_: None)

    def all_gradients() -> list[tuple[Tensor, ...]]:
        layers = [m for key, m in model.named_modules() if key.rpartition(".")[2] in TARGETS]
        for layer in layers:
            layer.weight.requires_grad_(True)
        for batch in batches:
            model(**batch).loss.backward()
        return [update_factors(layer.weight.grad, r=RANK, lr=LR) for layer in layers]

    def lora_ga() -> None:
        config = LoraConfig(
            r=RANK,
            target_modules=TARGETS,
            init_lora_weights="lora_ga",
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
        "gradients alone": gradients_alone,
        "all": all_gradients,
        "lora_ga": lora_ga,
    }[name]


def _backward_to_the_embeddings(model: nn.Module, batches: Batches) -> None:
    embed = model.get_input_embeddings()  # type: ignore[operator]
    for batch in batches:
        embeddings = embed(batch["input_ids"]).detach().requires_grad_(True)
        model(inputs_embeds=embeddings, labels=batch["labels"]).loss.backward()


def _factor_bytes(model: nn.Module) -> int:
    layers = [m for key, m in model.named_modules() if isinstance(m, nn.Linear)]
    of_targets = [m.weight.shape for m in layers if min(m.weight.shape) > RANK]
    return sum(4 * RANK * sum(shape) for shape in of_targets if VOCABULARY not in shape)


if __name__ == "__main__":
    main()
