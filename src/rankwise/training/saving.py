"""How a trained model is kept: its adapter as PEFT writes it, or all of its weights."""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel
from safetensors.torch import save_file
from torch import nn

from rankwise.methods.adapters.directory import sort_config


def save_trained(model: nn.Module, folder: Path) -> None:
    """Write what was trained of ``model`` to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, PeftModel):
        model.save_pretrained(str(folder))
        sort_config(folder)
    else:
        save_file(model.state_dict(), folder / "model.safetensors")
