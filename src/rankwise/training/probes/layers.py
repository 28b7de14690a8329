"""The layers whose weights move while a model trains, by an adapter or themselves.

The change of an adapter layer is a pure function of its parameters. Where ΔW = B A, that product is
the function. Any other layer of PEFT, whatever it computes, is asked through its forward: a linear
layer sends the unit matrix to the transpose of its weight, so ΔWᵀ = layer(1) - base(1). Of an open
chain it is the change that the current block makes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rankwise.capture.stacks import Source, Stack
from rankwise.core.errors import ModelError
from rankwise.diagnostics.captured import captured_share_by_jacobian
from rankwise.methods.adapters.bridge import (
    adapted_layers,
    adapter_parameters,
    base_weight,
    delta,
    factors,
    gradient_source,
)
from rankwise.methods.chain.layer import OpenedLayer

Parameters = dict[str, Tensor]
Change = Callable[[Parameters], Tensor]


@dataclass(frozen=True)
class ProbedLayer:
    """A layer, and what can be asked of it while it trains.

    Attributes:
        weight_norm: ‖W‖_F of the base weight.
        shape: (out, in) of the weight.
        change: Returns a copy of the present ΔW (out, in).
        captured_share: Returns the share of a gradient (out, in) that its next steps can follow;
            None where the change has no derivative that says so.
    """

    module: Source
    weight_norm: float
    shape: torch.Size
    change: Callable[[], Tensor]
    captured_share: Callable[[Tensor], float | None]


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


def captured_share_of_all(
    shares: Mapping[str, float | None], gradients: Mapping[str, Tensor]
) -> float | None:
    """Return the share of the gradient of all layers together; None if one is not known."""
    squares = {
        name: float(gradient.double().square().sum()) for name, gradient in gradients.items()
    }
    weighted = [(shares[name], square) for name, square in squares.items()]
    known = [(share, square) for share, square in weighted if share is not None]
    if not known or len(known) < len(weighted):
        return None
    return sum(share * square for share, square in known) / sum(square for _, square in known)


def relative_norm_of_all(changes: Mapping[str, float], layers: Mapping[str, ProbedLayer]) -> float:
    """Return ‖ΔW‖ / ‖W‖ over all layers together, from the norms of the changes."""
    return math.hypot(*changes.values()) / math.hypot(*(x.weight_norm for x in layers.values()))


def _full_layer(module: nn.Linear) -> ProbedLayer:
    first = module.weight.detach().clone()
    return ProbedLayer(
        module,
        _norm(first),
        first.shape,
        change=lambda: module.weight.detach() - first,
        captured_share=lambda _: 1.0,
    )


def _adapted_layer(layer: BaseTunerLayer) -> ProbedLayer:
    change, parameters = change_of(layer)
    weight = base_weight(layer).detach()
    source = gradient_source(layer)
    module: nn.Module = layer  # type: ignore[assignment]
    return ProbedLayer(
        source if isinstance(source, Stack) else module,
        _norm(weight),
        weight.shape,
        change=lambda: _whole_change(layer, change, parameters),
        captured_share=lambda gradient: _captured_share(gradient, change, parameters),
    )


def _norm(weight: Tensor) -> float:
    """Return ‖W‖_F, which a dtype of fewer digits than float32 could not hold."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    return float(torch.linalg.vector_norm(weight, dtype=dtype))


@torch.no_grad()
def _whole_change(layer: BaseTunerLayer, change: Change, parameters: Parameters) -> Tensor:
    """Return ΔW, of a chain with its history."""
    if isinstance(layer, OpenedLayer):
        return delta(layer, "default").clone()
    return change(parameters).clone()


def _captured_share(gradient: Tensor, change: Change, parameters: Parameters) -> float | None:
    try:
        share = captured_share_by_jacobian(
            gradient, change, parameters, iterations=30, tolerance=0.01
        )
    except RuntimeError:  # an operation of PEFT's that autograd cannot derive twice
        return None
    return share if math.isfinite(share) else None


def change_of(layer: BaseTunerLayer, adapter_name: str = "default") -> tuple[Change, Parameters]:
    """Return ΔW (out, in) as a function of the parameters that train, and these parameters.

    The layer must be in eval mode: what drops inputs at random is no linear layer.
    """
    wrapped = _ChangeOfLayer(layer, adapter_name)
    own = {id(part) for part in adapter_parameters(layer, adapter_name).values()}
    trained: Parameters = {
        name: parameter
        for name, parameter in wrapped.named_parameters()
        if parameter.requires_grad and id(parameter) in own
    }

    def change(parameters: Parameters) -> Tensor:
        return torch.func.functional_call(wrapped, parameters, ())

    return change, trained


class _ChangeOfLayer(nn.Module):
    def __init__(self, layer: BaseTunerLayer, adapter_name: str) -> None:
        super().__init__()
        self.layer = layer
        self._adapter_name = adapter_name
        self._is_product = _is_product(layer, adapter_name)

    def forward(self) -> Tensor:
        if isinstance(self.layer, OpenedLayer):
            B, A = self.layer.open_parameters()
            return self.layer.history.scaling * B @ A
        if self._is_product:
            B, A = factors(self.layer, self._adapter_name)  # type: ignore[arg-type]
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
