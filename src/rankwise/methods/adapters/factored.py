"""A linear layer beside which products of small factors run.

    y = W x + Σ ΔWᵢ dropout(x)        over the active adapters i, each ΔWᵢ = sᵢ Bᵢ Mᵢ Aᵢ

A layer and its change are one step of autograd wherever that can be (``fused.py``).
"""

from __future__ import annotations

from abc import ABC
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from rankwise.core.errors import ModelError
from rankwise.methods.adapters.factored_weight import FactoredWeight
from rankwise.methods.adapters.fused import common_dropout, fused_dtype, is_readable, join
from rankwise.methods.adapters.fused_linear import fused_linear


class FactoredLinear(FactoredWeight, ABC):
    """A frozen ``Linear`` or ``Conv1D`` layer with any number of adapters ΔW = s B M A."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        self.fan_in_fan_out = self.is_transposed  # PEFT's word

    def forward(
        self, x: Tensor, *args: Any, adapter_names: list[str] | None = None, **kwargs: Any
    ) -> Tensor:
        """Add the changes of the active adapters, or of each sample's own (``tuner.py``)."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        names = self._names_at_work()
        if names and adapter_names is None and not (args or kwargs):
            fused = self._fused(names, x)
            if fused is not None:
                return fused
        output = self.base_layer(x, *args, **kwargs)
        if adapter_names is not None:
            return self._add_by_sample(adapter_names, x, output)
        total = output
        for adapter_name in names:
            total = total + self._change(adapter_name, self.dropout[adapter_name](x))
        return total.to(output.dtype)

    def _change(self, adapter_name: str, x: Tensor) -> Tensor:
        """Return ΔW x for inputs (..., in)."""
        B, M, A = self._scaled_product(adapter_name)
        hidden = linear(self._cast_input_dtype(x, A.dtype), A)
        return linear(hidden if M is None else linear(hidden, M), B)

    def _fused(self, names: list[str], x: Tensor) -> Tensor | None:
        """Return the layer's output in one step of autograd, or None where that cannot be."""
        modules: Any = self._modules  # as in :meth:`_factors`
        dtype = fused_dtype(modules["base_layer"], x)
        if dtype is None or not all(map(self._is_readable, names)):
            return None
        dropouts = modules["dropout"]._modules
        dropout = common_dropout([dropouts[name] for name in names])
        if dropout is None:
            return None
        if len(names) == 1:
            return self._fused_with(names[0], x, dtype=dtype, dropout=dropout)
        factors = join([self._scaled_product(name, dtype) for name in names])
        return fused_linear(modules["base_layer"], x, factors, dtype=dtype, dropout=dropout)

    def _fused_with(
        self, adapter_name: str, x: Tensor, *, dtype: torch.dtype, dropout: float
    ) -> Tensor:
        """Return W x + b and the change of one adapter in one step of autograd."""
        factors, scaling = self.product(adapter_name, dtype), self.scaling[adapter_name]
        base: Any = self._modules["base_layer"]
        return fused_linear(base, x, factors, dtype=dtype, dropout=dropout, scaling=scaling)

    def _is_readable(self, adapter_name: str) -> bool:
        """Tell whether the weights of an adapter are there without a call of their modules."""
        kind = self.factor_class
        for factor in self._factors(adapter_name):
            if type(factor) is not kind or not is_readable(factor):
                return False
        return True

    def _add_by_sample(self, names: list[str], x: Tensor, output: Tensor) -> Tensor:
        if self.merged:
            raise ModelError("adapter_names with merged adapters: call unmerge_adapter() first")
        if len(names) != len(x):
            raise ModelError(
                "adapter_names must have one name a sample, "
                f"got {len(names)} names for {len(x)} samples"
            )
        total = output.clone()
        for adapter_name in dict.fromkeys(names):
            if adapter_name in self.r:
                rows = [row for row, name in enumerate(names) if name == adapter_name]
                total[rows] += self._change(adapter_name, x[rows]).to(total.dtype)
        return total
