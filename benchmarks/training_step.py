"""A training step with each adapter, as a ratio to the frozen model's own forward and backward.

    python benchmarks/training_step.py [--repetitions 15]

An encoder of MiniLM's size (6 layers, hidden 384), batch 8 × 128, r = 8 on all linear layers.
The limit is the forward and backward pass of the frozen model without any adapter, with gradients
from the loss down to the embeddings. All variants take turns in one process, so that what disturbs
the machine disturbs all of them; a figure is the median of the ratios of single turns, with the
range of their middle half.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import peft
import torch
from peft import LoraConfig
from torch import nn
from transformers import BertConfig, BertModel

from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.chain import Chain
from rankwise.methods.optimizer import parameter_groups

TARGETS = ["query", "key", "value", "dense"]
Step = Callable[[], None]


def main() -> None:
    """Print one line a variant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=15)
    repetitions = parser.parse_args().repetitions
    steps = variants()
    for step in steps.values():
        step()
    turns = [{name: _seconds(step) for name, step in steps.items()} for _ in range(repetitions)]
    print(f"{repetitions} turns, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in steps:
        ratios = [turn[name] / turn["limit"] for turn in turns]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{name:24} {middle:.3f}  [{low:.3f}, {high:.3f}]")


def variants() -> dict[str, Step]:
    """Return one training step a variant, the limit first."""
    lora = {"r": 8, "target_modules": TARGETS}
    plain, right, left = (peft.get_peft_model(_encoder(), LoraConfig(**lora)) for _ in range(3))
    Chain(right, side="right")
    Chain(left, side="left")
    return {
        "limit": _limit(),
        "PEFT LoRA": _step(plain),
        "PEFT DeLoRA": _step(peft.get_peft_model(_encoder(), peft.DeloraConfig(**lora))),
        "lora_xs": _step(peft.get_peft_model(_encoder(), LoraXSConfig(**lora))),
        "delora": _step(peft.get_peft_model(_encoder(), DeloraConfig(**lora))),
        "rac-lora, A frozen": _step(right),
        "rac-lora, B frozen": _step(left),
    }


def _encoder() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    return BertModel(config, add_pooling_layer=False).train()


def _batch() -> torch.Tensor:
    return torch.randint(0, 30_000, (8, 128), generator=torch.Generator().manual_seed(1))


def _limit() -> Step:
    model = _encoder().requires_grad_(False)
    embeddings = model.embeddings(_batch()).detach().requires_grad_(True)

    def step() -> None:
        model(inputs_embeds=embeddings).last_hidden_state.square().mean().backward()
        embeddings.grad = None

    return step


def _step(model: nn.Module) -> Step:
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-4), fused=True)
    batch = _batch()

    def step() -> None:
        model(batch).last_hidden_state.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _seconds(step: Step) -> float:
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
