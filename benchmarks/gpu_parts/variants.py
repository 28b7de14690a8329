"""The adapters that are compared: PEFT's and ours, each attached to modules of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peft
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

import rankwise
from gpu_parts.bench import TARGETS, Bench, share

PEFT_LORA, PEFT_DELORA = "PEFT LoRA", "PEFT DeLoRA"


@dataclass
class Variant:
    """A model under an adapter, and the chain on it where there is one."""

    model: PeftModel
    chain: rankwise.Chain | None = None


def lora(model: nn.Module, r: int) -> PeftModel:
    """Attach PEFT's own LoRA."""
    return get_peft_model(model, LoraConfig(r=r, lora_alpha=2 * r, target_modules=TARGETS))  # type: ignore


def core(model: nn.Module, r: int) -> PeftModel:
    """Attach LoRA-XS, without the decompositions of the weights that an init would overwrite."""
    config = rankwise.LoraXSConfig(r=r, target_modules=TARGETS, init_weights=False)
    return get_peft_model(model, config)  # type: ignore


def chained(model: nn.Module, r: int, side: Any, **options: Any) -> Variant:
    """Open a chain on a LoRA."""
    adapted = lora(model, r)
    return Variant(adapted, rankwise.Chain(adapted, side=side, **options))


def fused(model: nn.Module, r: int) -> Variant:
    """Attach PEFT's LoRA and let it compute as our layers do."""
    adapted = lora(model, r)
    rankwise.fuse(adapted)  # type: ignore[attr-defined]
    return Variant(adapted)


def builders(bench: Bench) -> dict[str, Callable[[nn.Module], Variant]]:
    """Return how to attach each adapter to a model."""
    r, high = bench.ranks
    ours = {
        "lora_xs": lambda model: Variant(core(model, r)),
        f"lora_xs r={high}": lambda model: Variant(core(model, high)),
        "delora": lambda model: Variant(
            get_peft_model(model, rankwise.DeloraConfig(r=r, target_modules=TARGETS))
        ),
        "chain, B frozen": lambda model: chained(model, r, "left"),
        "chain, A frozen": lambda model: chained(model, r, "right"),
        "chain, both train": lambda model: chained(model, r, "both"),
    }
    peers = {
        PEFT_LORA: lambda model: Variant(lora(model, r)),
        PEFT_DELORA: lambda model: Variant(
            get_peft_model(model, peft.DeloraConfig(r=r, target_modules=TARGETS))
        ),
    }
    if hasattr(rankwise, "fuse"):
        ours = {"LoRA, fused": lambda model: fused(model, r), **ours}
    return {**peers, **ours}


def attach(bench: Bench, model: nn.Module) -> tuple[dict[str, Variant], dict[str, Exception]]:
    """Attach each adapter to modules of its own around the weights of ``model``."""
    attached: dict[str, Variant] = {}
    failed: dict[str, Exception] = {}
    for name, build in builders(bench).items():
        bench.check_time()
        try:
            attached[name] = build(share(model))
        except Exception as error:
            failed[name] = error
    return attached, failed
