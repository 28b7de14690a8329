"""An adapter directory from anywhere is data: it is checked before a model sees it.

Weights come from safetensors alone; a pickle beside them is never opened. What the header promises
is compared with the file's size before a tensor is made, and values that are not finite are named.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from rankwise.core.errors import AdapterError
from rankwise.core.records import write_text
from rankwise.methods.adapters.peft_types import current_names

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FACTORS = (".lora_A.weight", ".lora_B.weight")  # how the names of a plain LoRA's tensors end
LARGEST_CONFIG_BYTES = 2**20
LARGEST_HEADER_BYTES = 2**24  # some hundred thousand tensors
_LENGTH_BYTES = 8  # a safetensors file begins with the length of its header


def check_adapter_directory(directory: Path) -> dict[str, Tensor]:
    """Return the tensors of the adapter in ``directory`` once nothing speaks against them.

    Those of 0.1 have the names of today.

    Raises:
        AdapterError: A file is missing, a link, damaged or oversized; the config is no JSON object
            with a ``peft_type``, names a rank beyond those of the tensors, or a module to import; a
            value is not finite.
    """
    config = read_config(directory)
    tensors = current_names(read_tensors(plain_file(directory, WEIGHTS)))
    _check_ranks(directory, config, tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise AdapterError(
                f"{name} in {directory / WEIGHTS} has values that are not finite: use an earlier "
                "checkpoint"
            )
    return tensors


def _check_ranks(directory: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Refuse ranks beyond all sides of the tensors: PEFT would allocate factors of that rank."""
    largest = max((side for each in tensors.values() for side in each.shape), default=0)
    # An OFT may have blocks of a size instead of a rank.
    least = 0 if config.get("peft_type") in ("OFT", "BOFT") else 1
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    for rank in ranks:
        if isinstance(rank, list):  # AdaLoRA's: which of its components are left
            rank = len(rank) if all(type(each) is bool for each in rank) else rank
        if rank is not None and not (type(rank) is int and least <= rank <= largest):
            raise AdapterError(
                f"{directory / CONFIG} names the rank {rank!r:.40}, but no tensor of {WEIGHTS} has "
                f"more than {largest} rows or columns: it belongs to another adapter"
            )


def read_config(directory: Path) -> dict[str, Any]:
    """Return ``adapter_config.json`` as a dictionary that names a ``peft_type``.

    Raises:
        AdapterError: It is missing, a link, oversized, no JSON object, or of no type.
    """
    path = plain_file(directory, CONFIG)
    if path.stat().st_size > LARGEST_CONFIG_BYTES:
        raise AdapterError(f"{path} has {path.stat().st_size} bytes: no adapter's config is so big")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also bad UTF-8 and integers without end
        raise AdapterError(f"{path} is not valid JSON ({error}): fetch it again") from None
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        raise AdapterError(f"{path} names no peft_type: it is not an adapter's config")
    if not isinstance(config.get("rank_pattern") or {}, dict):
        raise AdapterError(f"{path} has a rank_pattern that maps nothing: fetch it again")
    if config.get("megatron_config") is not None:  # PEFT imports the module named beside it
        raise AdapterError(f"{path} names a module to be imported (megatron_core): it is not read")
    return config


def read_names(path: Path) -> list[str]:
    """Return the names of the tensors of such a file, and read none of them.

    Raises:
        AdapterError: The file is damaged, or its header promises more than there is.
    """
    check_header(path)
    with _damage_told(path), safe_open(path, "pt") as file:
        return list(file.keys())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file whose header is of a sensible size.

    Raises:
        AdapterError: The file is damaged, or its header promises more than there is.
    """
    check_header(path)
    with _damage_told(path):
        return load_file(path)


@contextlib.contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise AdapterError(f"{path} is damaged ({error}): use an earlier checkpoint") from None


def check_header(path: Path) -> None:
    """Refuse a safetensors file whose header is longer than the file or than any sensible one.

    Raises:
        AdapterError: It is.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_LENGTH_BYTES)
    header = struct.unpack("<Q", start)[0] if len(start) == _LENGTH_BYTES else size
    if header > min(LARGEST_HEADER_BYTES, size - _LENGTH_BYTES):
        raise AdapterError(
            f"{path} is damaged (its header claims {header} bytes of a file of {size}, and at most "
            f"{LARGEST_HEADER_BYTES} are read): use an earlier checkpoint"
        )


def plain_file(directory: Path, name: str) -> Path:
    """Return the path of a file of the directory itself.

    Raises:
        AdapterError: There is none, or it is a link, which may lead anywhere.
    """
    path = directory / name
    if path.is_symlink():
        raise AdapterError(f"{path} is a link, which is not followed: copy the file itself")
    if not path.is_file():
        pickled = " (a pickle, .bin, is never read)" if any(directory.glob("*.bin")) else ""
        raise AdapterError(f"no {name} in {directory}{pickled}: pass an adapter's directory")
    return path


def sort_config(directory: Path) -> None:
    """Put the names in the config of an adapter in order, so that equal adapters are equal bytes.

    PEFT keeps them as sets and writes each in the order that the process happens to give it.
    """
    config = read_config(directory)
    for name in ("target_modules", "exclude_modules"):
        if isinstance(names := config.get(name), list):
            config[name] = sorted(names)
    write_text(directory / CONFIG, json.dumps(config, indent=2, sort_keys=True))
