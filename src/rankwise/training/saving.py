"""How a trained model is kept: its adapter as PEFT writes it, or all of its weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from peft import PeftModel
from safetensors.torch import save_model
from torch import nn

from rankwise.methods.adapters.directory import sort_config


def save_trained(model: nn.Module, folder: Path) -> None:
    """Write what was trained of ``model`` to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, PeftModel):
        card = folder / "README.md"
        if not card.exists():
            card.write_text(_blank_card(), encoding="utf-8")
        model.save_pretrained(str(folder))
        sort_config(folder)
    else:
        # Tied weights, as most small causal models have them, are written once.
        save_model(model, str(folder / "model.safetensors"))


@cache
def _blank_card() -> str:
    """Return the card that PEFT fills in, where none is there, from the Hub's template.

    It compiles that anew for each adapter, which takes longer than all else of a small save.
    """
    return str(ModelCard.from_template(ModelCardData()))
