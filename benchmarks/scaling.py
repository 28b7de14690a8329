"""The cost model of docs/scaling.md: checked at three sizes here, applied to sizes beyond.

    python benchmarks/scaling.py [--threads 1] [--tiny]

First each formula of ``cost.py`` is held against a measurement: operations as
torch counts them, bytes that autograd keeps, peaks of fresh processes, files. Then models of 7 B,
70 B and 400 B parameters are built on the meta device, where nothing is allocated: their layers
must be those that the formulas assume, and the formulas say what 1 to 1024 processes need.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cost
import peft
import torch
from cost import Decoder
from measuring import Options, SavedBytes, measured, peak_beyond, read_options
from peft import LoraConfig
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.chain.chain import Chain
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RANK, ROWS, LENGTH = 16, 2, 128
TOKENS = ROWS * LENGTH
WIDTHS, TINY_WIDTHS = (256, 512, 1024), (64,)
LARGE = {
    "7 B": Decoder(4096, 11008, 32, 32000, 4096),
    "70 B": Decoder(8192, 28672, 80, 128256, 1024),
    "400 B": Decoder(16384, 53248, 126, 128256, 1024),
}
LARGE_RANK, LARGE_TOKENS, BFLOAT16, BUDGET = 64, 4096, 2, 8_000_000_000
GIGABYTE = 1e9


def main(words: Sequence[str] | None = None) -> None:
    """Print both tables."""
    options = read_options(words, 1)
    print("| hidden | what | formula | measured | measured / formula |\n|---|---|---|---|---|")
    for width in TINY_WIDTHS if options.is_tiny else WIDTHS:
        network = Decoder(width, width * 11 // 4, blocks=4, vocabulary=2000, key_value=width)
        for what, formula, found in check(network, options):
            cells = (network.hidden, what, f"{formula:.4g}", f"{found:.4g}")
            print(f"| {' | '.join(map(str, cells))} | {found / formula:.2f} |", flush=True)
    print_large()


def check(network: Decoder, options: Options) -> list[tuple[str, float, float]]:
    """Return (what, formula, measured) of one size."""
    shapes, W = network.shapes, network.weights - network.vocabulary * network.hidden
    base = _model(network)
    core = _core(network)
    chain_model = peft.get_peft_model(_model(network), LoraConfig(r=RANK, target_modules=TARGETS))
    chain = Chain(chain_model, side="right")
    frozen = _operations(lambda: _backward(base))
    found: list[tuple[str, float, float]] = [
        ("operations, frozen pass", cost.frozen_pass_operations(W, TOKENS), frozen),
        (
            "operations, lora_xs beyond it",
            cost.adapter_step_operations("lora_xs", shapes, RANK, TOKENS),
            _operations(lambda: _backward(core)) - frozen,
        ),
        (
            "operations, update init",
            cost.init_operations(shapes, W, RANK, TOKENS),
            _operations(lambda: _initialise(core)),
        ),
        ("operations, fold 1", cost.fold_operations(shapes, RANK, 1), _operations(chain.fold)),
        ("bytes kept, frozen", TOKENS * 4 * network.kept_numbers, _kept(base)),
        ("bytes kept, lora_xs", cost.kept_bytes("lora_xs", network, RANK, TOKENS), _kept(core)),
        (
            "bytes kept, one factor trains (B)",
            cost.kept_bytes("frozen_a", network, RANK, TOKENS),
            _kept(chain_model),
        ),
    ]
    peaks = {name: measured(options, peak, name, network) for name in ("frozen", "init")}
    extra = peaks["init"] - peaks["frozen"]
    found.append(("bytes, update init beyond", cost.init_bytes(network, RANK, TOKENS), extra))
    with tempfile.TemporaryDirectory() as folder:
        core.save_pretrained(folder)
        size = (Path(folder) / "adapter_model.safetensors").stat().st_size
    found.append(("bytes, checkpoint", cost.checkpoint_bytes("lora_xs", shapes, RANK), size))
    return found


def peak(name: str, network: Decoder) -> int:
    """Return the peak of one pass in a fresh process."""
    torch.set_num_threads(1)
    model = _core(network)
    _backward(model, rows=1, length=2)
    return peak_beyond(lambda: _initialise(model) if name == "init" else _without_adapter(model))


def print_large() -> None:
    """Print what the large models need."""
    print(
        f"\nr = {LARGE_RANK}, all linear layers, {LARGE_TOKENS} tokens a process, bfloat16 base\n"
    )
    heads = (
        "model",
        "processes",
        "weights",
        "adapter, lora_xs / lora",
        "kept, lora_xs / lora",
        "init beyond a pass",
        "passes",
        "init sent",
        "init / pass",
        "W₀ in main memory",
    )
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, network in LARGE.items():
        _check_on_meta(network)
        for processes in (1, 8, 64, 1024):
            print(f"| {name} | {processes} | {' | '.join(_needs(network, processes))} |")


def _needs(network: Decoder, processes: int) -> list[str]:
    shapes, r, T = network.shapes, LARGE_RANK, LARGE_TOKENS
    states = [cost.state_bytes(kind, shapes, r) / processes for kind in ("lora_xs", "lora")]
    kept = [cost.kept_bytes(kind, network, r, T, size=BFLOAT16) for kind in ("lora_xs", "lora")]
    options = {"batches": 1, "processes": processes, "budget": BUDGET}
    init = cost.init_bytes(network, r, T, size=BFLOAT16, **options)
    passes = cost.init_passes(shapes, **options)
    operations = cost.init_operations(
        shapes, network.weights, r, T, processes=processes, passes=passes
    )
    _, main_memory = cost.fold_bytes(shapes, size=BFLOAT16)
    return [
        _gigabytes(BFLOAT16 * network.weights / processes),
        " / ".join(map(_gigabytes, states)),
        " / ".join(map(_gigabytes, kept)),
        _gigabytes(init),
        str(passes),
        _gigabytes(cost.init_traffic_bytes(shapes, r) if processes > 1 else 0),
        f"{operations / cost.frozen_pass_operations(network.weights, T):.2f}",
        _gigabytes(main_memory),
    ]


def _check_on_meta(network: Decoder) -> None:
    with torch.device("meta"):
        model = _core(network, rank=LARGE_RANK)
    adapted = [tuple(m.weight.shape) for name, m in model.named_modules() if _is_target(name)]
    assert sorted(adapted) == sorted(network.shapes)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == cost.adapter_numbers("lora_xs", network.shapes, LARGE_RANK).trained


def _is_target(name: str) -> bool:
    return name.endswith(tuple(f"{target}.base_layer" for target in TARGETS))


def _model(network: Decoder) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=network.vocabulary,
        hidden_size=network.hidden,
        intermediate_size=network.intermediate,
        num_hidden_layers=network.blocks,
        num_attention_heads=network.hidden // 128 if network.hidden > 1024 else 8,
        num_key_value_heads=network.key_value // 128 if network.hidden > 1024 else 8,
    )
    return LlamaForCausalLM(config).requires_grad_(False).eval()


def _core(network: Decoder, rank: int = RANK) -> peft.PeftModel:
    config = LoraXSConfig(r=rank, target_modules=TARGETS, init_weights=False)
    return peft.get_peft_model(_model(network), config)  # type: ignore[return-value]


def _tokens(model: nn.Module, rows: int, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    return torch.randint(vocabulary, (rows, length), generator=generator)


def _loss(model: nn.Module, rows: int, length: int) -> Tensor:
    tokens = _tokens(model, rows, length)
    embeddings = model.get_input_embeddings()(tokens).detach()  # type: ignore[operator]
    return model(inputs_embeds=embeddings.requires_grad_(True), labels=tokens).loss


def _backward(model: nn.Module, rows: int = ROWS, length: int = LENGTH) -> None:
    _loss(model, rows, length).backward()


def _without_adapter(model: peft.PeftModel) -> None:
    with model.disable_adapter():
        _backward(model)


def _initialise(model: nn.Module) -> None:
    tokens = _tokens(model, ROWS, LENGTH)
    initialize(model, UpdateApproximation(lr=1e-4), [{"input_ids": tokens, "labels": tokens}])


def _kept(model: nn.Module) -> int:
    with SavedBytes([*model.parameters(), *model.buffers()]) as saved:
        loss = _loss(model, ROWS, LENGTH)
    del loss
    return saved.total


def _operations(step: Callable[[], object]) -> int:
    # torch does not count what is added in place.
    in_place = {torch.ops.aten.addmm_: _addmm_operations}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        step()
    return counter.get_total_flops()


def _addmm_operations(
    _: tuple[int, ...], left: tuple[int, ...], right: tuple[int, ...], **__
) -> int:
    return 2 * left[0] * left[1] * right[1]


def _gigabytes(number: float) -> str:
    return f"{number / GIGABYTE:.3g} GB"


if __name__ == "__main__":
    main()
