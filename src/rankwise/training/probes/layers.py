"""The layers whose weights move while a model trains, by an adapter or themselves.

The change of an adapter layer is a pure function of its parameters. Where ΔW = B A, it stays these
two factors whatever is asked of it, so that models of any size can be watched. Any other layer of
PEFT is asked through its forward: a linear layer sends the unit matrix to the transpose of its
weight, so ΔWᵀ = layer(1) - base(1). Of an open chain it is the change that the current block makes,
but for its norm, which counts the history too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rankwise.capture.stacks import Source, Stack
from rankwise.core.errors import ModelError
from rankwise.diagnostics.captured import captured_share_by_jacobian
from rankwise.diagnostics.relative_norm import product_norm
from rankwise.functional.product import Product
from rankwise.methods.adapters.bridge import (
    adapted_layers,
    base_weight,
    factors,
    gradient_source,
)
from rankwise.methods.chain.captured import (
    Measure,
    Parameters,
    Shares,
    as_function,
    if_finite,
    measure_by_factors,
    open_factors,
)

Change = Callable[[Parameters], Tensor]


@dataclass(frozen=True)
class ProbedLayer:
    """A layer, and what can be asked of it while it trains.

    Attributes:
        weight_norm: ‖W‖_F of the base weight.
        shape: (out, in) of the weight.
        change: Returns a copy of the present ΔW (out, in): its two factors, or dense.
        is_factored: Whether nothing that is asked forms a matrix of the size of the weight.
        captured_share: Returns the share of a gradient (out, in) that its next steps can follow;
            None where the change has no derivative that says so.
    """

    module: Source
    weight_norm: float
    shape: torch.Size
    change: Callable[[], Tensor | Product]
    captured_share: Measure
    is_factored: bool = False


def adapted_layers_of(model: nn.Module) -> dict[str, ProbedLayer]:
    """Return the adapted layers, or without an adapter the linear layers that train, by name."""
    if not isinstance(model, PeftModel):
        return {
            name: _full_layer(module)
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module.weight.requires_grad
        }
    return {
        name.removeprefix("base_model.model."): _adapted_layer(layer)
        for name, layer in adapted_layers(model).items()
    }


def shares_of(layers: Mapping[str, ProbedLayer]) -> Shares:
    """Return what takes the gradients of these layers."""
    return Shares({name: layer.captured_share for name, layer in layers.items()})


def norm_of(change: Tensor | Product) -> float:
    """Return ‖ΔW‖_F."""
    if isinstance(change, Product):
        return float(product_norm(change.left, change.right))
    return float(change.norm())


def distance(change: Tensor | Product, other: Tensor | Product) -> float:
    """Return ‖ΔW - ΔW'‖_F of two changes of one layer."""
    if isinstance(change, Product) and isinstance(other, Product):
        left = torch.cat([change.left, -other.left], dim=-1)
        return norm_of(Product(left, torch.cat([change.right, other.right], dim=-2)))
    assert isinstance(change, Tensor)
    assert isinstance(other, Tensor)
    return float((change - other).norm())


def relative_norm_of_all(changes: Mapping[str, float], layers: Mapping[str, ProbedLayer]) -> float:
    """Return ‖ΔW‖ / ‖W‖ over all layers together, from the norms of the changes; 0 of none."""
    if not layers:
        return 0.0
    return math.hypot(*changes.values()) / math.hypot(*(x.weight_norm for x in layers.values()))


def _full_layer(module: nn.Linear) -> ProbedLayer:
    # Where there is more room than on an accelerator; read one layer at a time.
    first = module.weight.detach().to("cpu", copy=True)
    return ProbedLayer(
        module,
        _norm(first),
        first.shape,
        change=lambda: module.weight.detach().cpu() - first,
        captured_share=lambda _: 1.0,
        is_factored=True,  # no larger than what trains
    )


def _adapted_layer(layer: BaseTunerLayer) -> ProbedLayer:
    weight = base_weight(layer).detach()
    source = gradient_source(layer)
    module: nn.Module = layer  # type: ignore[assignment]
    if _is_product(layer, "default"):
        change, share = partial(_present_factors, layer), measure_by_factors(layer)
    else:
        function, parameters = change_of(layer)
        change = partial(_present_change, function, parameters)
        share = partial(_share_by_jacobian, change=function, parameters=parameters)
    return ProbedLayer(
        source if isinstance(source, Stack) else module,
        _norm(weight),
        weight.shape,
        change=change,
        captured_share=share,
        is_factored=_is_product(layer, "default"),
    )


def _norm(weight: Tensor) -> float:
    """Return ‖W‖_F, which a dtype of fewer digits than float32 could not hold."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    return float(torch.linalg.vector_norm(weight, dtype=dtype))


@torch.no_grad()
def _present_factors(layer: BaseTunerLayer) -> Product:
    """Return ΔW as two factors, of a chain with its history."""
    B, A = factors(layer, "default")
    return Product(B.clone(), A.clone())


@torch.no_grad()
def _present_change(change: Change, parameters: Parameters) -> Tensor:
    return change(parameters).clone()


def _share_by_jacobian(gradient: Tensor, *, change: Change, parameters: Parameters) -> float | None:
    try:
        share = captured_share_by_jacobian(
            gradient, change, parameters, iterations=30, tolerance=0.01
        )
    except RuntimeError:  # an operation of PEFT's that autograd cannot derive twice
        return None
    return if_finite(share)


def change_of(layer: BaseTunerLayer, adapter_name: str = "default") -> tuple[Change, Parameters]:
    """Return ΔW (out, in) as a function of the parameters that train, and these parameters.

    The layer must be in eval mode: what drops inputs at random is no linear layer.
    """
    return as_function(_ChangeOfLayer(layer, adapter_name), layer, adapter_name)


class _ChangeOfLayer(nn.Module):
    def __init__(self, layer: BaseTunerLayer, adapter_name: str) -> None:
        super().__init__()
        self.layer = layer
        self._adapter_name = adapter_name
        self._is_product = _is_product(layer, adapter_name)

    def forward(self) -> Tensor:
        if self._is_product:
            B, A = open_factors(self.layer, self._adapter_name)
            return B @ A
        weight = base_weight(self.layer)  # type: ignore[arg-type]
        unit = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        base: nn.Module = self.layer.get_base_layer()  # type: ignore[operator]
        return (self.layer(unit) - base(unit)).T  # type: ignore[operator]


def _is_product(layer: BaseTunerLayer, adapter_name: str) -> bool:
    try:
        factors(layer, adapter_name)
    except (ModelError, KeyError, AttributeError):
        return False
    return True
