"""What of a chain goes into its ledger, and how a ledger gives the blocks back.

Stored are the factors that no seed gives back; a frozen sketch is drawn again. Each block comes
back in the dtype that it had: PEFT loads an adapter in float32 where TRL had trained it in
bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor

from rankwise.methods.adapters import bridge
from rankwise.methods.adapters.stacks import number_of_experts
from rankwise.methods.chain.layer import Factors, OpenedLayer
from rankwise.methods.chain.ledger import (
    CONFIG_FIELDS,
    ChainIdentity,
    Layout,
    Ledger,
    check_identity,
    check_layout,
    key_of,
)
from rankwise.methods.chain.sketches import Sketcher

Layers = Mapping[str, OpenedLayer]


def ledger_of(
    layers: Layers, sketcher: Sketcher, *, config: LoraConfig, is_inherited: bool
) -> Ledger:
    """Return the ledger of the chain of ``layers``, the open block last.

    Args:
        config: The adapter's.
        is_inherited: Whether block 0 is the adapter that the chain found.
    """
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        layer.match_dtypes()
        # The tensors themselves: what is written is not held twice.
        blocks = [*layer.history.blocks, layer.open_factors()]
        for block, (B, A) in enumerate(blocks):
            for factor, tensor in (("B", B), ("A", A)):
                if _is_stored(factor, block, sketcher=sketcher, is_inherited=is_inherited):
                    tensors[key_of(name, block, factor)] = tensor
    folds = len(next(iter(layers.values())).history.blocks)
    identity = _identity_of(layers, sketcher)
    return Ledger(identity, folds, is_inherited, tensors, _fields_of(config))


def _fields_of(config: LoraConfig) -> dict[str, Any]:
    fields = {name: getattr(config, name) for name in CONFIG_FIELDS}
    return {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in fields.items()
        if value
    }


def recall(ledger: Ledger, layers: Layers, sketcher: Sketcher) -> dict[str, list[Factors]]:
    """Return the blocks (B, A) of each layer, the open one last.

    Raises:
        AdapterError: The ledger is damaged or of a chain that was set up otherwise.
    """
    check_identity(ledger.identity, _identity_of(layers, sketcher))
    dtypes = {name: _dtype_of(name, layer, ledger) for name, layer in layers.items()}
    check_layout(ledger.tensors, _layout_of(ledger, layers, sketcher, dtypes=dtypes))
    return {
        name: [
            _recall_block(
                name, block, ledger, dtype=dtypes[name], draw=partial(sketcher.draw, name, layer)
            )
            for block in range(ledger.folds + 1)
        ]
        for name, layer in layers.items()
    }


def _dtype_of(name: str, layer: OpenedLayer, ledger: Ledger) -> torch.dtype:
    """Return the dtype that the open block of a layer has in the ledger."""
    keys = [key_of(name, ledger.folds, factor) for factor in "BA"]
    stored = [ledger.tensors[key].dtype for key in keys if key in ledger.tensors]
    known = [dtype for dtype in stored if dtype.is_floating_point]
    return known[0] if known else layer.open_parameters()[0].dtype


def _identity_of(layers: Layers, sketcher: Sketcher) -> ChainIdentity:
    shapes = {
        name: [
            *bridge.base_shape(layer),
            bridge.rank(layer, sketcher.adapter_name),
            layer.history.scaling,
            *([] if (experts := number_of_experts(layer)) is None else [experts]),
        ]
        for name, layer in layers.items()
    }
    return ChainIdentity(sketcher.side, sketcher.kind, sketcher.seed, shapes)


def _layout_of(
    ledger: Ledger, layers: Layers, sketcher: Sketcher, *, dtypes: Mapping[str, torch.dtype]
) -> Layout:
    layout: Layout = {}
    for name, layer in layers.items():
        for factor, values in zip("BA", layer.open_factors(), strict=True):
            for block in range(ledger.folds + 1):
                inherited = ledger.is_inherited
                if not _is_stored(factor, block, sketcher=sketcher, is_inherited=inherited):
                    continue
                key, dtype = key_of(name, block, factor), dtypes[name]
                if block == 0 and inherited and key in ledger.tensors:
                    # It was finished before a trainer cast what it trains.
                    dtype = ledger.tensors[key].dtype
                layout[key] = tuple(values.shape), dtype
    return layout


def _is_stored(factor: str, block: int, *, sketcher: Sketcher, is_inherited: bool) -> bool:
    """Whether the ledger holds a factor: it does, unless a seed gives it back."""
    is_drawn = factor == sketcher.factor and not (is_inherited and block == 0)
    return not (is_drawn and sketcher.is_recallable)


def _recall_block(
    name: str, block: int, ledger: Ledger, *, dtype: torch.dtype, draw: Callable[[int], Tensor]
) -> Factors:
    """Return B and A of a block, the sketch drawn again where the ledger leaves it out."""
    B, A = (
        ledger.tensors[key]
        if (key := key_of(name, block, factor)) in ledger.tensors
        else draw(block).to(dtype)
        for factor in "BA"
    )
    return B, A
