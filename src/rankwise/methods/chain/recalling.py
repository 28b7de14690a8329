"""What of a chain goes into its ledger, and how a ledger gives the blocks back.

Stored are the factors that no seed gives back; a frozen sketch is drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping

from rankwise.methods.adapters import bridge
from rankwise.methods.chain.layer import Factors, OpenedLayer
from rankwise.methods.chain.ledger import (
    ChainIdentity,
    Layout,
    Ledger,
    check_identity,
    check_layout,
    key_of,
)
from rankwise.methods.chain.sketches import Sketcher

Layers = Mapping[str, OpenedLayer]


def ledger_of(layers: Layers, sketcher: Sketcher, is_inherited: bool) -> Ledger:
    """Return the ledger of the chain of ``layers``, the open block last.

    Args:
        is_inherited: Whether block 0 is the adapter that the chain found.
    """
    tensors = {}
    for name, layer in layers.items():
        for block, (B, A) in enumerate([*layer.history.blocks, layer.open_block()]):
            for factor, tensor in (("B", B), ("A", A)):
                if _is_stored(factor, block, sketcher=sketcher, is_inherited=is_inherited):
                    tensors[key_of(name, block, factor)] = tensor.contiguous()
    folds = len(next(iter(layers.values())).history.blocks)
    return Ledger(_identity_of(layers, sketcher), folds, is_inherited, tensors)


def recall(ledger: Ledger, layers: Layers, sketcher: Sketcher) -> dict[str, list[Factors]]:
    """Return the blocks (B, A) of each layer, the open one last.

    Raises:
        AdapterError: The ledger is damaged or of a chain that was set up otherwise.
    """
    check_identity(ledger.identity, _identity_of(layers, sketcher))
    check_layout(ledger.tensors, _layout_of(ledger, layers, sketcher))
    return {
        name: [
            _recall_block(name, block, ledger, layer=layer, sketcher=sketcher)
            for block in range(ledger.folds + 1)
        ]
        for name, layer in layers.items()
    }


def _identity_of(layers: Layers, sketcher: Sketcher) -> ChainIdentity:
    shapes = {
        name: [
            *bridge.base_shape(layer),
            bridge.rank(layer, sketcher.adapter_name),
            layer.history.scaling,
        ]
        for name, layer in layers.items()
    }
    return ChainIdentity(sketcher.side, sketcher.kind, sketcher.seed, shapes)


def _layout_of(ledger: Ledger, layers: Layers, sketcher: Sketcher) -> Layout:
    inherited = ledger.is_inherited
    return {
        key_of(name, block, factor): (tuple(parameter.shape), parameter.dtype)
        for name, layer in layers.items()
        for factor, parameter in zip("BA", layer.open_parameters(), strict=True)
        for block in range(ledger.folds + 1)
        if _is_stored(factor, block, sketcher=sketcher, is_inherited=inherited)
    }


def _is_stored(factor: str, block: int, *, sketcher: Sketcher, is_inherited: bool) -> bool:
    """Whether the ledger holds a factor: it does, unless a seed gives it back."""
    is_drawn = factor == sketcher.factor and not (is_inherited and block == 0)
    return not (is_drawn and sketcher.is_recallable)


def _recall_block(
    name: str, block: int, ledger: Ledger, *, layer: OpenedLayer, sketcher: Sketcher
) -> Factors:
    """Return B and A of a block, the sketch drawn again where the ledger leaves it out."""
    B, A = (
        ledger.tensors[key]
        if (key := key_of(name, block, factor)) in ledger.tensors
        else sketcher.draw(name, layer, block).to(parameter.dtype)
        for factor, parameter in zip("BA", layer.open_parameters(), strict=True)
    )
    return B, A
