"""A plain LoRA directory brought to a smaller rank, with what is lost on the way."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from rankwise.core.autocast import without_autocast
from rankwise.core.errors import SettingsError
from rankwise.core.records import write_text
from rankwise.functional.compression import compress
from rankwise.methods.adapters.directory import CONFIG, FACTORS, WEIGHTS, read_config, read_tensors

_A, _B = FACTORS


@without_autocast()
def compress_directory(directory: Path, rank: int) -> dict[str, float]:
    """Bring a directory of ``export_lora`` to ``rank`` in place; one that is smaller stays.

    Returns:
        Per layer, the relative Frobenius error of its change.

    Raises:
        SettingsError: ``rank`` is less than 1.
        AdapterError: The directory cannot be read.
    """
    if rank < 1:
        raise SettingsError(f"--rank must be at least 1, got {rank}")
    config, tensors = read_config(directory), read_tensors(directory / WEIGHTS)
    layers = [key.removesuffix(_A) for key in tensors if key.endswith(_A)]
    if config["r"] <= rank:
        return dict.fromkeys(layers, 0.0)
    errors = {}
    for name in layers:
        dtype = tensors[name + _A].dtype
        B, A, errors[name] = compress([(tensors[name + _B], tensors[name + _A])], rank)
        tensors[name + _B] = B.to(dtype).contiguous()
        tensors[name + _A] = A.to(dtype).contiguous()
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    config |= {"r": rank, "lora_alpha": rank}
    write_text(directory / CONFIG, json.dumps(config, indent=2) + "\n")
    return errors
