"""How much of a gradient the open block of a chain, or a single adapter, follows at first order.

A layer's share is that of ``diagnostics/captured.py``. The layers count together as the one vector
that they are: with g_l the share and G_l the gradient of layer l,

    share = Σ_l g_l ‖G_l‖² / Σ_l ‖G_l‖²
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rankwise.diagnostics.captured import Trained, captured_share, captured_share_by_factors
from rankwise.methods.adapters.bridge import adapter_parameters, factors, followed_factors
from rankwise.methods.chain.layer import OpenedLayer

Parameters = dict[str, Tensor]
Measure = Callable[[Tensor], float | None]
"""Returns the share of a gradient (out, in), or None where nothing says it."""

_TRAINS: dict[frozenset[str], Trained] = {
    frozenset({"lora_A", "lora_B"}): "both",
    frozenset({"lora_A"}): "A",
    frozenset({"lora_B"}): "B",
    frozenset({"rankwise_xs_R"}): "core",
}


class Shares:
    """Takes the gradients of layers, one at a time, and keeps of each but two numbers."""

    def __init__(self, measures: Mapping[str, Measure]) -> None:
        self.by_layer: dict[str, float | None] = {}
        self._measures = measures
        self._squares: dict[str, float] = {}

    def add(self, name: str, gradient: Tensor) -> None:
        """Take the gradient (out, in) of one layer."""
        self.by_layer[name] = self._measures[name](gradient)
        # In float64 without a copy of it, where the device has that.
        dtype = torch.float32 if gradient.device.type == "mps" else torch.float64
        self._squares[name] = float(torch.linalg.vector_norm(gradient, dtype=dtype)) ** 2

    def of_all(self) -> float | None:
        """Return the share of the gradient of all layers together; None if one is not known."""
        weighted = [(self.by_layer[name], square) for name, square in self._squares.items()]
        known = [(share, square) for share, square in weighted if share is not None]
        if not known or len(known) < len(weighted):
            return None
        return sum(share * square for share, square in known) / sum(square for _, square in known)


def measure_by_factors(layer: BaseTunerLayer, adapter_name: str = "default") -> Measure:
    """Return the closed form where there is one; else what conjugate gradients find.

    To be asked for while the parameters that train are marked as such.
    """
    function, parameters = _factors_of(layer, adapter_name)
    trains = _TRAINS.get(frozenset(_trained_parts(layer, adapter_name)))

    def share(gradient: Tensor) -> float | None:
        if trains is None:
            return if_finite(
                captured_share_by_factors(
                    gradient, function, parameters, iterations=30, tolerance=0.01
                )
            )
        with torch.no_grad():
            is_core = trains == "core"
            B, A = followed_factors(layer, adapter_name) if is_core else function(parameters)
            if not (B.isfinite().all() and A.isfinite().all() and gradient.isfinite().all()):
                return None
            return float(captured_share(gradient, B, A, trains=trains))

    return share


def if_finite(share: float) -> float | None:
    """Return a number, or None where it is none."""
    return share if math.isfinite(share) else None


def open_factors(layer: Any, adapter_name: str) -> tuple[Tensor, Tensor]:
    """Return the factors of the change, of an open chain those of its current block."""
    if isinstance(layer, OpenedLayer):
        return layer.own_factors(adapter_name)  # type: ignore[attr-defined]
    return factors(layer, adapter_name)


def as_function(
    wrapped: nn.Module, layer: BaseTunerLayer, adapter_name: str
) -> tuple[Callable[[Parameters], Any], Parameters]:
    """Return what ``wrapped`` computes of ``layer`` by the parameters that train, and these."""
    own = {id(part) for part in adapter_parameters(layer, adapter_name).values()}
    trained: Parameters = {
        name: parameter
        for name, parameter in wrapped.named_parameters()
        if parameter.requires_grad and id(parameter) in own
    }

    def function(parameters: Parameters) -> Any:
        return torch.func.functional_call(wrapped, parameters, ())

    return function, trained


def _trained_parts(layer: BaseTunerLayer, adapter_name: str) -> list[str]:
    parts = adapter_parameters(layer, adapter_name)
    return [name for name, parameter in parts.items() if parameter.requires_grad]


def _factors_of(
    layer: BaseTunerLayer, adapter_name: str
) -> tuple[Callable[[Parameters], tuple[Tensor, Tensor]], Parameters]:
    """Return the factors of ΔW as a function of the parameters that train, and these."""
    return as_function(_FactorsOfLayer(layer, adapter_name), layer, adapter_name)


class _FactorsOfLayer(nn.Module):
    def __init__(self, layer: BaseTunerLayer, adapter_name: str) -> None:
        super().__init__()
        self.layer = layer
        self._adapter_name = adapter_name

    def forward(self) -> tuple[Tensor, Tensor]:
        return open_factors(self.layer, self._adapter_name)
