"""The change of any adapter layer as a pure function of its parameters.

Where ΔW = B A, that product is the function. Any other layer of PEFT, whatever it computes, is
asked through its forward: a linear layer sends the unit matrix to the transpose of its weight, so
ΔWᵀ = layer(1) - base(1). Of an open chain it is the change that the current block makes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rankwise.core.errors import ModelError
from rankwise.methods.adapters.bridge import adapter_parameters, base_weight, factors
from rankwise.methods.chain.layer import OpenedLayer

Parameters = dict[str, Tensor]
Change = Callable[[Parameters], Tensor]


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
