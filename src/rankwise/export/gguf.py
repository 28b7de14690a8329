"""What llama.cpp's ``convert_lora_to_gguf.py`` takes: LoRA factors of linear layers and no more.

``export_lora`` gives one rank and alpha = r already. What the converter stops at, the modules of
``modules_to_save`` such as a classification head, is moved to a file beside the adapter.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from rankwise.core.errors import AdapterError
from rankwise.core.records import write_text
from rankwise.methods.adapters.directory import CONFIG, FACTORS, WEIGHTS, read_config, read_tensors

HEAD = "modules_to_save.safetensors"


def make_gguf_ready(directory: Path) -> list[str]:
    """Change a directory of ``export_lora`` in place; return the tensors that were set apart.

    Both files are read back: together they hold what the one held, bit for bit.

    Raises:
        AdapterError: The directory cannot be read, or is not what was written.
    """
    tensors = read_tensors(directory / WEIGHTS)
    apart = {key: tensor for key, tensor in tensors.items() if not key.endswith(FACTORS)}
    if apart:
        save_file(apart, directory / HEAD, metadata={"format": "pt"})
        factors = {key: tensor for key, tensor in tensors.items() if key not in apart}
        save_file(factors, directory / WEIGHTS, metadata={"format": "pt"})
    config = read_config(directory) | {"modules_to_save": None}
    write_text(directory / CONFIG, json.dumps(config, indent=2) + "\n")
    files = [WEIGHTS, HEAD] if apart else [WEIGHTS]
    reread = {key: each for file in files for key, each in read_tensors(directory / file).items()}
    if reread.keys() != tensors.keys() or not all(
        each.equal(tensors[key]) for key, each in reread.items()
    ):
        raise AdapterError(f"the tensors set apart in {directory} are not what was written")
    return sorted(apart)
