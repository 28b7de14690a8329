"""What of a chain goes into its ledger, and how a ledger gives the blocks back.

Stored are the factors that no seed gives back; a frozen sketch is drawn again. Of the open block
those parts follow that its factors do not give back. Each block comes
back in the dtype that it had: PEFT loads an adapter in float32 where TRL had trained it in
bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import PeftConfig
from torch import Tensor

from rankwise.core.errors import SettingsError
from rankwise.methods.adapters import bridge
from rankwise.methods.adapters.stacks import number_of_experts
from rankwise.methods.chain.layer import Factors, OpenedLayer, Sketches
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


@dataclass(frozen=True)
class Past:
    """What a chain knows of its finished blocks beside their factors.

    Attributes:
        is_inherited: Whether block 0 is the adapter that the chain found.
        fold_steps: The step that each fold was given, if it was.
    """

    is_inherited: bool
    fold_steps: tuple[int | None, ...] = ()

    def after_fold(self, step: int | None) -> Past:
        """Return what is known after one more fold.

        Raises:
            SettingsError: ``step`` is no number of steps, or not above that of a fold before.
        """
        last = max((each for each in self.fold_steps if each is not None), default=0)
        if step is not None and (type(step) is not int or step <= last):
            raise SettingsError(
                f"step must be an integer above {last}, the steps of the whole training so far, "
                f"got {step!r}: nothing was folded"
            )
        return Past(self.is_inherited, (*self.fold_steps, step))


def ledger_of(layers: Layers, sketcher: Sketcher, *, config: PeftConfig, past: Past) -> Ledger:
    """Return the ledger of the chain of ``layers``, the open block last.

    Args:
        config: The adapter's.
        past: What the chain knows of its finished blocks.
    """
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        layer.match_dtypes()
        # The tensors themselves: what is written is not held twice.
        blocks = [*layer.history.blocks, layer.open_factors()]
        last = len(blocks) - 1
        for part, parameter in layer.parts_beside_factors().items():
            tensors[key_of(name, last, part)] = parameter.detach()
        for block, (B, A) in enumerate(blocks):
            for factor, tensor in (("B", B), ("A", A)):
                if _is_stored(factor, block, sketcher=sketcher, is_inherited=past.is_inherited):
                    tensors[key_of(name, block, factor)] = tensor
    folds = len(next(iter(layers.values())).history.blocks)
    identity = _identity_of(layers, sketcher)
    fields = _fields_of(config, is_transposed=any(map(bridge.is_transposed, layers.values())))
    return Ledger(identity, folds, past.is_inherited, tensors, fields, past.fold_steps)


def _fields_of(config: PeftConfig, *, is_transposed: bool) -> dict[str, Any]:
    of_ours = {"fan_in_fan_out": is_transposed}  # which a LoRA's config says itself
    fields = {name: getattr(config, name, of_ours.get(name)) for name in CONFIG_FIELDS}
    return {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in fields.items()
        if value
    }


@dataclass(frozen=True)
class Recalled:
    """What a ledger gives back, by layer.

    Attributes:
        blocks: The finished blocks.
        parts: The parts of the open one.
        past: What else is known of the finished ones, of all layers.
    """

    blocks: dict[str, list[Factors]]
    parts: dict[str, dict[str, Tensor]]
    past: Past


def recall(ledger: Ledger, layers: Layers, sketcher: Sketcher) -> Recalled:
    """Return the blocks of each layer.

    Raises:
        AdapterError: The ledger is damaged or of a chain that was set up otherwise.
    """
    check_identity(ledger.identity, _identity_of(layers, sketcher))
    dtypes = {name: _dtype_of(name, layer, ledger) for name, layer in layers.items()}
    check_layout(ledger.tensors, _layout_of(ledger, layers, sketcher, dtypes=dtypes))
    blocks, parts = {}, {}
    for name, layer in layers.items():
        draw = partial(sketcher.draw, name, layer)
        *blocks[name], (B, A) = (
            _recall_block(name, block, ledger, dtype=dtypes[name], draw=draw)
            for block in range(ledger.folds + 1)
        )
        beside = layer.parts_beside_factors()
        kept = {part: ledger.tensors[key_of(name, ledger.folds, part)] for part in beside}
        parts[name] = {"B": B, "A": A, **kept}
    return Recalled(blocks, parts, Past(ledger.is_inherited, ledger.fold_steps))


def _dtype_of(name: str, layer: OpenedLayer, ledger: Ledger) -> torch.dtype:
    """Return the dtype that the open block of a layer has in the ledger."""
    keys = [key_of(name, ledger.folds, factor) for factor in "BA"]
    stored = [ledger.tensors[key].dtype for key in keys if key in ledger.tensors]
    known = [dtype for dtype in stored if dtype.is_floating_point]
    return known[0] if known else next(iter(layer.open_parts().values())).dtype


def _identity_of(layers: Layers, sketcher: Sketcher) -> ChainIdentity:
    shapes = {
        name: [
            *bridge.base_shape(layer),
            layer.open_factors()[1].shape[-2],
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
                if block == 0 and inherited:
                    # It was finished before a trainer cast what it trains.
                    dtype = _own_dtype(ledger, key, dtype)
                layout[key] = tuple(values.shape), dtype
        for part, parameter in layer.parts_beside_factors().items():
            key = key_of(name, ledger.folds, part)
            # A trainer casts the trained ones alone.
            layout[key] = tuple(parameter.shape), _own_dtype(ledger, key, parameter.dtype)
    return layout


def _own_dtype(ledger: Ledger, key: str, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that a tensor of the ledger has, or ``dtype`` where it is none of values."""
    found = ledger.tensors[key].dtype if key in ledger.tensors else dtype
    return found if found.is_floating_point else dtype


def _is_stored(factor: str, block: int, *, sketcher: Sketcher, is_inherited: bool) -> bool:
    """Whether the ledger holds a factor: it does, unless a seed gives it back."""
    is_drawn = factor in sketcher.factors and not (is_inherited and block == 0)
    return not (is_drawn and sketcher.is_recallable)


def _recall_block(
    name: str, block: int, ledger: Ledger, *, dtype: torch.dtype, draw: Callable[[int], Sketches]
) -> Factors:
    """Return B and A of a block, the sketch drawn again where the ledger leaves it out."""
    B, A = (
        ledger.tensors[key]
        if (key := key_of(name, block, factor)) in ledger.tensors
        else draw(block)[factor].to(dtype)
        for factor in "BA"
    )
    return B, A
