"""The ledger of a chain on disk: what it has trained so far, block by block.

One safetensors file, whole or absent. Its tensors are the factors that no seed gives back, named
``<layer>.<block>.B`` (out, r) and ``<layer>.<block>.A`` (r, in), of a stack of experts (experts,
out, r) and (experts, r, in); the last block is the open one.
Of an adapter of ours the parts of the open block follow, under their own names.
Its header says how the chain was set up, how many blocks there are, and by which fields of a
``LoraConfig`` PEFT finds the layers again. A frozen sketch that comes from a seed is left out.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rankwise.core.errors import AdapterError
from rankwise.functional.sketch_kinds import ChainSide
from rankwise.methods.adapters.directory import check_header
from rankwise.methods.chain.safetensors_file import save_file

FILE_NAME = "rankwise_chain.safetensors"
FORMAT_VERSION = 1
LARGEST_SIZE = 2**24  # of a side of a weight, as a bound for what a header can ask for
# Of a LoraConfig, what says on which layers it is, and how a loader makes the model.
CONFIG_FIELDS = (
    "target_modules",
    "exclude_modules",
    "target_parameters",
    "layers_to_transform",
    "layers_pattern",
    "fan_in_fan_out",
    "task_type",
)

Layout = dict[str, tuple[tuple[int, ...], torch.dtype]]


@dataclass(frozen=True)
class ChainIdentity:
    """What two runs of a chain must share to continue one another.

    Attributes:
        side: The sketched side, ``left``, ``right``, ``both`` or ``both-left``; None where both
            factors of a block are sketches.
        sketch: The kind of sketch.
        seed: The seed of the run.
        layers: Per layer [out, in, k, s], k the rank of a block, s the scaling of ΔW = s Σ B A; of
            a stack of experts their number follows.
    """

    side: str | None
    sketch: str
    seed: int
    layers: dict[str, list[float]]


@dataclass(frozen=True)
class Ledger:
    """The state of a chain.

    Attributes:
        identity: How the chain was set up.
        folds: Blocks that are folded; one more, the open one, follows them.
        is_inherited: Whether block 0 is the adapter that the chain found, and no seed gives it
            back.
        tensors: The stored factors under their keys: when written, those of the living chain.
        config: The fields ``CONFIG_FIELDS`` of the adapter's ``LoraConfig`` that are set; empty in
            the ledgers of 0.1.
        fold_steps: Of each fold that the chain has made the step that it was given, or None; where
            a file says nothing of them, each is None.
    """

    identity: ChainIdentity
    folds: int
    is_inherited: bool
    tensors: dict[str, Tensor]
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    fold_steps: tuple[int | None, ...] = ()


def key_of(layer: str, block: int, factor: str) -> str:
    """Return the name of a factor (``B`` or ``A``) or part in the file."""
    return f"{layer}.{block}.{factor}"


def write_ledger(directory: Path, ledger: Ledger) -> None:
    """Write the ledger into ``directory``, created if need be, in place of an earlier one."""
    directory.mkdir(parents=True, exist_ok=True)
    header = {
        "format_version": FORMAT_VERSION,
        "identity": asdict(ledger.identity),
        "folds": ledger.folds,
        "is_inherited": ledger.is_inherited,
        "config": ledger.config,
    }
    if any(step is not None for step in ledger.fold_steps):
        header["fold_steps"] = ledger.fold_steps
    temporary = directory / f".{FILE_NAME}.{os.getpid()}"
    try:
        save_file(ledger.tensors, temporary, metadata={"rankwise_chain": json.dumps(header)})
        os.replace(temporary, directory / FILE_NAME)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_ledger(directory: Path) -> Ledger:
    """Read what :func:`write_ledger` wrote.

    Raises:
        AdapterError: There is no ledger, or it is damaged, of another format or another version.
    """
    path = directory / FILE_NAME
    if path.is_symlink():
        raise AdapterError(f"{path} is a link, which is not followed: copy the file itself")
    if not path.is_file():
        within = sorted(directory.glob(f"*/{FILE_NAME}"))
        advice = f"name {within[0].parent}, which has one" if within else "check the directory"
        raise AdapterError(f"no ledger of a chain at {path}: {advice}")
    try:
        check_header(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path} is damaged ({error}): use an earlier checkpoint") from None
    return _assemble(path, metadata, tensors)


def folder_of(directory: Path, adapter_name: str) -> Path:
    """Return where in ``directory``, as PEFT's ``save_pretrained`` wrote it, the ledger lies."""
    own = directory / adapter_name
    is_within = not (directory / FILE_NAME).exists() and (own / FILE_NAME).exists()
    return own if is_within else directory


def check_identity(found: ChainIdentity, expected: ChainIdentity) -> None:
    """Refuse a ledger of a chain that was set up otherwise.

    Raises:
        AdapterError: Naming the first difference.
    """
    for field in ("side", "sketch", "seed"):
        if getattr(found, field) != getattr(expected, field):
            raise AdapterError(
                f"the ledger is of a chain with {field}={getattr(found, field)!r}, this one has "
                f"{getattr(expected, field)!r}: build the chain as it was"
            )
    for layer in sorted(found.layers.keys() | expected.layers.keys()):
        there, here = found.layers.get(layer), expected.layers.get(layer)
        if there != here:
            raise AdapterError(
                f"{layer} has [out, in, r, scaling] {there} in the ledger and {here} in the model: "
                "use the same model, target_modules, r and lora_alpha"
            )


def check_layout(tensors: dict[str, Tensor], layout: Layout) -> None:
    """Refuse tensors whose keys, shapes or dtypes are not those of ``layout``.

    Raises:
        AdapterError: Naming the first difference.
    """
    found = {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in tensors.items()}
    for key in sorted(found.keys() | layout.keys()):
        there, here = found.get(key), layout.get(key)
        if there != here:
            raise AdapterError(
                f"tensor {key} is {there} in the ledger and must be {here}: the ledger is damaged "
                "or of another chain"
            )


def _assemble(path: Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> Ledger:
    try:
        header: dict[str, Any] = json.loads(metadata["rankwise_chain"])
        version = header["format_version"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise AdapterError(f"{path} is not the ledger of a chain") from None
    if version != FORMAT_VERSION:
        raise AdapterError(
            f"{path} has format version {version!r}, this Rankwise reads {FORMAT_VERSION}: "
            "install the version that wrote it"
        )
    try:
        identity, folds = ChainIdentity(**header["identity"]), int(header["folds"])
        is_inherited = bool(header["is_inherited"])
        config = {str(name): value for name, value in header.get("config", {}).items()}
        told = header.get("fold_steps")
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise AdapterError(f"{path} has a damaged header ({error!r})") from None
    _check_values(path, identity)
    for name, value in config.items():
        if name not in CONFIG_FIELDS or not _is_field(value):
            raise AdapterError(f"{path} has a damaged header ({name!r:.100}: {value!r:.100})")
    if not 0 <= folds < len(tensors):
        raise AdapterError(f"{path} names {folds} folded blocks for {len(tensors)} tensors")
    made = max(0, folds - is_inherited)
    if told is not None and not (_are_steps(told) and len(told) == made):
        raise AdapterError(f"{path} has a damaged header (fold_steps={told!r:.100})")
    fold_steps = (None,) * made if told is None else tuple(told)
    return Ledger(identity, folds, is_inherited, tensors, config, fold_steps)


def _check_values(path: Path, identity: ChainIdentity) -> None:
    """Refuse a header whose values could not be those of a chain, before anything is allocated."""
    words = identity.side in (*get_args(ChainSide), None) and isinstance(identity.sketch, str)
    layers = identity.layers
    if not isinstance(layers, dict):
        raise AdapterError(f"{path} has a damaged header (layers={layers!r})")
    if not (words and type(identity.seed) is int and layers):
        raise AdapterError(f"{path} has a damaged header ({identity!r:.300})")
    for name, layer in layers.items():
        if not _is_layer(layer):
            raise AdapterError(f"{path} has a damaged header ({name!r:.100}: {layer!r:.100})")


def _are_steps(steps: Any) -> bool:
    """Tell whether these can be the steps of folds, in their order; None is one not known."""
    if not isinstance(steps, list):
        return False
    known = [step for step in steps if step is not None]
    if not all(type(step) is int and step > 0 for step in known):
        return False
    return all(first < second for first, second in itertools.pairwise(known))


def _is_field(value: Any) -> bool:
    """Tell whether a field of a config can have this value: names, numbers, a pattern, a switch."""
    values = value if isinstance(value, list) else [value]
    return all(type(each) in (str, int, bool) for each in values)


def _is_layer(layer: Any) -> bool:
    """Tell whether ``layer`` can be [out, in, r, scaling] or [out, in, r, scaling, experts]."""
    if not (isinstance(layer, list) and len(layer) in (4, 5)):
        return False
    scaling, sizes = layer[3], [*layer[:3], *layer[4:]]
    whole = all(type(size) is int and 1 <= size <= LARGEST_SIZE for size in sizes)
    return whole and type(scaling) in (int, float) and math.isfinite(scaling)
