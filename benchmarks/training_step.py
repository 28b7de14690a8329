"""A training step with each adapter, as a ratio to the frozen model's own forward and backward.

    python benchmarks/training_step.py [--repetitions 15] [--threads 1]

An encoder of MiniLM's size (6 layers, hidden 384), batch 8 × 128, r = 8 on all linear layers.
The limit is the forward and backward pass of the frozen model without any adapter, with gradients
from the loss down to the embeddings. What is kept for the backward pass is compared with PEFT's
LoRA: all storages that autograd saves, without parameters and buffers. There the encoder has no
dropout: its masks, in float32 on a CPU, are the same for all and nearly half of what is kept.
"""

from __future__ import annotations

import peft
import torch
from measuring import (
    Row,
    SavedBytes,
    Step,
    arguments,
    megabytes,
    met,
    print_rows,
    ratio,
    take_turns,
)
from peft import LoraConfig
from torch import nn
from transformers import BertConfig, BertModel

from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.chain.chain import Chain
from rankwise.methods.optimizer import parameter_groups

TARGETS = ["query", "key", "value", "dense"]
TIME_TARGETS = {"lora_xs": 1.10, "delora": 1.14, "rac-lora, A frozen": 1.14}
TIME_TARGETS["rac-lora, B frozen"] = 1.14
MEMORY_TARGETS = {"lora_xs": 0.7, "rac-lora, A frozen": 0.7, "delora": 1.0}


def main() -> None:
    """Print the rows."""
    print_rows("training step", rows(arguments(15).repetitions))


def rows(repetitions: int) -> list[Row]:
    """Compare times with the limit, and what is kept with PEFT's LoRA."""
    models = adapted()
    steps = {"limit": _limit(), **{name: step_of(model) for name, model in models.items()}}
    turns = take_turns(steps, repetitions=repetitions)
    peers = {name: str(ratio(turns, name, to="limit")) for name in ("PEFT LoRA", "PEFT DeLoRA")}
    found = []
    for name, target in TIME_TARGETS.items():
        value = ratio(turns, name, to="limit")
        peer = "PEFT DeLoRA" if name == "delora" else "PEFT LoRA"
        cells = (str(value), f"{peer} {peers[peer]}", "1", str(value), f"≤ {target:.2f}")
        found.append(Row(f"training step, {name}", *cells, met(value, target)))
    kept = {name: _kept(model) for name, model in adapted(dropout=0.0).items()}
    for name, target in MEMORY_TARGETS.items():
        value = kept[name] / kept["PEFT LoRA"]
        cells = (megabytes(kept[name]), f"PEFT LoRA {megabytes(kept['PEFT LoRA'])}", "-")
        what = f"kept for the backward pass, {name}"
        found.append(Row(what, *cells, f"{value:.3f}", f"≤ {target}", round(value, 2) <= target))
    return found


def adapted(dropout: float = 0.1) -> dict[str, nn.Module]:
    """Return the model with each adapter."""

    def base() -> BertModel:
        return encoder(dropout)

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


def encoder(dropout: float = 0.1) -> BertModel:
    """Return a BERT of MiniLM's size with random weights."""
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertModel(config, add_pooling_layer=False).train()


def step_of(model: nn.Module) -> Step:
    """Return a training step of ``model``: forward, backward, fused AdamW."""
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-4), fused=True)
    batch = _batch()

    def step() -> None:
        _loss(model(batch)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _kept(model: nn.Module) -> int:
    with SavedBytes([*model.parameters(), *model.buffers()]) as saved:
        loss = _loss(model(_batch()))
    del loss
    return saved.total


def _limit() -> Step:
    model = encoder().requires_grad_(False)
    embeddings = model.embeddings(_batch()).detach().requires_grad_(True)

    def step() -> None:
        _loss(model(inputs_embeds=embeddings)).backward()
        embeddings.grad = None

    return step


def _batch() -> torch.Tensor:
    return torch.randint(0, 30_000, (8, 128), generator=torch.Generator().manual_seed(1))


def _loss(output) -> torch.Tensor:
    return output.last_hidden_state.square().mean()


if __name__ == "__main__":
    main()
