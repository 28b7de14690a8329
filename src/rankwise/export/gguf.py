"""What llama.cpp's ``convert_lora_to_gguf.py`` takes: LoRA factors of linear layers and no more.

``export_lora`` gives one rank and alpha = r already. What the converter stops at, the modules of
``modules_to_save`` such as a classification head, is moved to a file beside the adapter.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from rankwise.core.records import write_text
from rankwise.methods.adapters.directory import CONFIG, WEIGHTS, read_config, read_tensors

HEAD = "modules_to_save.safetensors"
_FACTORS = (".lora_A.weight", ".lora_B.weight")


def make_gguf_ready(directory: Path) -> list[str]:
    """Change a directory of ``export_lora`` in place; return the tensors that were set apart.

    Raises:
        AdapterError: The directory cannot be read.
    """
    tensors = read_tensors(directory / WEIGHTS)
    apart = {key: tensor for key, tensor in tensors.items() if not key.endswith(_FACTORS)}
    if apart:
        save_file(apart, directory / HEAD, metadata={"format": "pt"})
        factors = {key: tensor for key, tensor in tensors.items() if key not in apart}
        save_file(factors, directory / WEIGHTS, metadata={"format": "pt"})
    config = read_config(directory) | {"modules_to_save": None}
    write_text(directory / CONFIG, json.dumps(config, indent=2) + "\n")
    return sorted(apart)
