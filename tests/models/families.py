"""A model of each family under an adapter of each kind, and what the tests ask of any of them.

A new family is an entry of ``FAMILIES``; a new kind of adapters one of ``adapters.KINDS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from tests.models.adapters import KINDS
from tests.models.architectures import bert, gpt2, llama, roberta, t5, vit
from tests.models.batches import Batch, images, sentence_pairs, sentences
from tests.models.networks import Network


def vectors(rows: int) -> Batch:
    return {"x": torch.randn(rows, 12, generator=torch.Generator().manual_seed(1))}


@dataclass(frozen=True)
class Family:
    """How to build a model, a batch for it, which layers to adapt and which to train whole."""

    build: Callable[[], nn.Module]
    batch: Callable[[int], Batch]
    targets: tuple[str, ...]
    head: str
    embedding: str | None = None


# On these every kind of adapter keeps all that PEFT promises.
FAMILIES = {
    "linear": Family(partial(Network, "Linear"), vectors, ("first", "second"), "head"),
    "conv1d": Family(partial(Network, "Conv1D"), vectors, ("first", "second"), "head"),
    "bert": Family(bert, sentences, ("query", "value"), "classifier", "word_embeddings"),
    "roberta": Family(roberta, sentences, ("query", "value"), "classifier", "word_embeddings"),
    "gpt2": Family(
        partial(gpt2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
        sentences,
        ("c_attn", "c_fc"),
        "ln_f",
        "wte",
    ),
    "llama": Family(llama, sentences, ("q_proj", "down_proj"), "lm_head", "embed_tokens"),
    "t5": Family(
        partial(t5, num_decoder_layers=2), sentence_pairs, ("q", "wo"), "final_layer_norm", "shared"
    ),
    "vit": Family(vit, images, ("q_proj", "fc1"), "classifier"),
}
PLAIN = ("linear", "conv1d")
TRANSFORMERS = tuple(family for family in FAMILIES if family not in PLAIN)


def config(kind: str, family: str, **options) -> PeftConfig:
    options = {"r": 2, "target_modules": list(FAMILIES[family].targets), **options}
    if kind == "lora":  # ours look at the layer instead
        options["fan_in_fan_out"] = family in ("conv1d", "gpt2")
    return KINDS[kind](**options)


def base(family: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    return FAMILIES[family].build().to(dtype).eval()


def attach(kind: str, family: str, *, dtype: torch.dtype = torch.float32, **options) -> PeftModel:
    torch.manual_seed(2)
    return get_peft_model(base(family, dtype), config(kind, family, **options)).eval()


def trained(kind: str, family: str, *, dtype: torch.dtype = torch.float32, **options) -> PeftModel:
    """Return a model whose adapter has taken some steps, so that it acts."""
    model = attach(kind, family, dtype=dtype, **options)
    train(model, family)
    return model


def batch_of(model: nn.Module, family: str, rows: int = 4) -> dict[str, Tensor]:
    dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
    batch = FAMILIES[family].batch(rows)
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in batch.items()}


def logits(model: nn.Module, family: str, rows: int = 4, **options) -> Tensor:
    with torch.no_grad():
        return _logits(model(**batch_of(model, family, rows), **options))


def loss(model: nn.Module, family: str) -> Tensor:
    return (_logits(model(**batch_of(model, family))).float() - 1).square().mean()


def _logits(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output["logits"]


def train(model: nn.Module, family: str, *, steps: int = 2, lr: float = 0.05) -> list[float]:
    """Train what is trainable, in eval mode so that no dropout draws; return the losses."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    losses = []
    for _ in range(steps):
        value = loss(model, family)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(value.item())
    return losses


def tuner_layers(model: nn.Module) -> dict[str, BaseTunerLayer]:
    return {n: m for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)}


def trainable(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def without_dropout(model: nn.Module) -> None:
    """Let training mode compute what eval mode does."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
