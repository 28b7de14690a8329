"""A safetensors file written one tensor after another, so that none is held a second time.

``safetensors.torch.save_file`` turns all tensors into bytes before it writes the first. The file is
the same: eight bytes with the length of the header, the header as JSON, the data.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from rankwise.methods.adapters.bridge import whole

# In the order in which safetensors lays tensors out, so that each lies at a multiple of its size.
_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_ALIGNMENT = 8


def save_file(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write floating-point tensors, wherever they are, and strings beside them to ``path``.

    Of sharded tensors every process has to write all, in the same order.
    """
    order = list(_DTYPES)
    keys = sorted(tensors, key=lambda key: (order.index(tensors[key].dtype), key))
    with path.open("wb") as file:
        file.write(_header(tensors, keys, metadata))
        for key in keys:
            tensor = whole(tensors[key].detach()).cpu().contiguous()
            file.write(tensor.view(-1).view(torch.uint8).numpy().data)


def _header(tensors: Mapping[str, Tensor], keys: list[str], metadata: dict[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for key in keys:
        start, end = end, end + tensors[key].numel() * tensors[key].element_size()
        entries[key] = {
            "dtype": _DTYPES[tensors[key].dtype],
            "shape": list(tensors[key].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text
