"""A training step with each adapter, as a ratio to the frozen model's own forward and backward.

    python benchmarks/training_step.py [--repetitions 15] [--threads 1] [--tiny]

An encoder of MiniLM's size (6 layers, hidden 384), batch 8 × 128, r = 8 on all linear layers.
The limit is the forward and backward pass of the frozen model without any adapter, with gradients
from the loss down to the embeddings. What is kept for the backward pass is compared with PEFT's
LoRA: all storages that autograd saves, without parameters and buffers. There the encoder has no
dropout: its masks, in float32 on a CPU, are the same for all and nearly half of what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import peft
import torch
from measuring import (
    Options,
    Row,
    SavedBytes,
    Step,
    Target,
    megabytes,
    of,
    print_rows,
    read_options,
    take_turns,
    verdict_of,
)
from peft import LoraConfig
from torch import nn
from transformers import BertConfig, BertModel

from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.chain.chain import Chain
from rankwise.methods.optimizer import parameter_groups


@dataclass(frozen=True)
class Size:
    """An encoder and its batch."""

    hidden: int = 384
    blocks: int = 6
    heads: int = 12
    rows: int = 8
    length: int = 128
    vocabulary: int = 30_522


TINY = Size(hidden=16, blocks=1, heads=2, rows=2, length=4, vocabulary=50)
TARGETS = ["query", "key", "value", "dense"]
TIME_TARGETS = {"lora_xs": 1.10, "delora": 1.14, "rac-lora, A frozen": 1.14}
TIME_TARGETS["rac-lora, B frozen"] = 1.14
MEMORY_TARGETS = {"lora_xs": 0.7, "rac-lora, A frozen": 0.7, "delora": 1.0}


def main(words: Sequence[str] | None = None) -> None:
    """Print the rows."""
    print_rows("training step", rows(read_options(words, 15)))


def rows(options: Options) -> list[Row]:
    """Compare times with the limit, and what is kept with PEFT's LoRA."""
    size = TINY if options.is_tiny else Size()
    return [*_time_rows(size, options), *_memory_rows(size)]


def _time_rows(size: Size, options: Options) -> list[Row]:
    steps = {"limit": _limit(size)}
    steps |= {name: step_of(model, size) for name, model in adapted(size).items()}
    targets = {n: Target(of(n, to="limit"), at_most) for n, at_most in TIME_TARGETS.items()}
    turns = take_turns(steps, options=options, targets=targets.values())
    found = []
    for name, target in targets.items():
        value = str(target.ratio(turns))
        peer = "PEFT DeLoRA" if name == "delora" else "PEFT LoRA"
        theirs = Target(of(peer, to="limit"), 1).ratio(turns)
        cells = (value, f"{peer} {theirs}", "1", value, str(target), target.verdict(turns))
        found.append(Row(f"training step, {name}", *cells))
    return found


def _memory_rows(size: Size) -> list[Row]:
    kept = {name: _kept(model, size) for name, model in adapted(size, dropout=0.0).items()}
    peer, found = kept["PEFT LoRA"], []
    for name, at_most in MEMORY_TARGETS.items():
        value = round(kept[name] / peer, 2)
        cells = (megabytes(kept[name]), f"PEFT LoRA {megabytes(peer)}", "-", f"{value:.2f}")
        what = f"kept for the backward pass, {name}"
        found.append(Row(what, *cells, f"≤ {at_most:g}", verdict_of(value, at_most)))
    return found


def adapted(size: Size, dropout: float = 0.1) -> dict[str, nn.Module]:
    """Return the model with each adapter."""

    def base() -> BertModel:
        return encoder(size, dropout)

    lora = {"r": 8, "target_modules": TARGETS}
    plain, right, left = (peft.get_peft_model(base(), LoraConfig(**lora)) for _ in range(3))
    Chain(right, side="right")
    Chain(left, side="left")
    return {
        "PEFT LoRA": plain,
        "PEFT DeLoRA": peft.get_peft_model(base(), peft.DeloraConfig(**lora)),
        "lora_xs": peft.get_peft_model(base(), LoraXSConfig(**lora)),
        "delora": peft.get_peft_model(base(), DeloraConfig(**lora)),
        "rac-lora, A frozen": right,
        "rac-lora, B frozen": left,
    }


def encoder(size: Size, dropout: float = 0.1) -> BertModel:
    """Return a BERT, by default of MiniLM's size, with random weights."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.blocks,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.hidden,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertModel(config, add_pooling_layer=False).train()


def step_of(model: nn.Module, size: Size) -> Step:
    """Return a training step of ``model``: forward, backward, fused AdamW."""
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-4), fused=True)
    batch = _batch(size)

    def step() -> None:
        _loss(model(batch)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _kept(model: nn.Module, size: Size) -> int:
    with SavedBytes([*model.parameters(), *model.buffers()]) as saved:
        loss = _loss(model(_batch(size)))
    del loss
    return saved.total


def _limit(size: Size) -> Step:
    model = encoder(size).requires_grad_(False)
    embeddings = model.embeddings(_batch(size)).detach().requires_grad_(True)

    def step() -> None:
        _loss(model(inputs_embeds=embeddings)).backward()
        embeddings.grad = None

    return step


def _batch(size: Size) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, size.vocabulary, (size.rows, size.length), generator=generator)


def _loss(output) -> torch.Tensor:
    return output.last_hidden_state.square().mean()


if __name__ == "__main__":
    main()
