"""A stack of experts' weights beside which products of small factors act.

    Wₑ + Σ ΔWₑᵢ        for each expert e, over the active adapters i, ΔWₑᵢ = sᵢ Bₑᵢ Mₑᵢ Aₑᵢ

Transformers 5 holds the weights of all experts of a block in one parameter, which its module reads.
So while that module computes, the changed stack stands in the place of the parameter, as in PEFT's
``target_parameters``. It is one tensor of the size of the stack, and its gradient another one; in a
base of few digits the change is rounded to the digits of the weight.

Two parameters of one module are adapted by two of these layers, one around the other.
"""

from __future__ import annotations

import contextlib
from abc import ABC
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rankwise.core.errors import ModelError, SettingsError
from rankwise.core.undoing import undone
from rankwise.methods.adapters.bridge import is_sharded
from rankwise.methods.adapters.factored_weight import FactoredWeight
from rankwise.methods.adapters.stacks import adapted_parameter


class FactoredExperts(FactoredWeight, ABC):
    """A module with a frozen stack of matrices, and any number of adapters of each of them."""

    def __init__(self, base_layer: nn.Module, parameter_name: str) -> None:
        self.parameter_name = parameter_name
        super().__init__(base_layer)
        self.stack = (len(self.weight),)

    @property
    def weight(self) -> nn.Parameter:  # type: ignore[override]
        """The stack (experts, out, in), or (experts, in, out)."""
        return adapted_parameter(self)

    def forward(self, *args: Any, adapter_names: list[str] | None = None, **kwargs: Any) -> Any:
        """Let the module compute with the changed stack."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        if adapter_names is not None and set(adapter_names) & self.r.keys():
            raise ModelError(
                "adapter_names cannot mix adapters of experts, whose tokens come from all samples: "
                "run the samples of each adapter by themselves"
            )
        names = [] if adapter_names is not None else self._names_at_work()
        if not names:
            return self.base_layer(*args, **kwargs)
        with self._in_place_of_weight(self._changed(names)):
            return self.base_layer(*args, **kwargs)

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """Return the module below all of its adapters, which are merged before if ``merge``."""
        layer: Any = self
        while merge and isinstance(layer, FactoredExperts):
            layer.merge(safe_merge=safe_merge, adapter_names=adapter_names)
            layer = layer.base_layer
        return self.get_base_layer()  # type: ignore[return-value]

    def _changed(self, names: list[str]) -> Tensor:
        weight: Tensor = self.weight
        if is_sharded(weight):
            raise ModelError(
                f"{self.parameter_name} is sharded while its adapter needs it: apply fully_shard "
                "to the block around the experts, and not to the experts themselves"
            )
        dtype = torch.promote_types(weight.dtype, torch.float32)
        for name in names:
            B, A = self.own_factors(name)
            left, right = (A.mT, B.mT) if self.is_transposed else (B, A)
            weight = torch.baddbmm(weight.to(dtype), left.to(dtype), right.to(dtype))
        return weight.to(self.weight.dtype)

    @contextlib.contextmanager
    def _in_place_of_weight(self, changed: Tensor) -> Iterator[None]:
        parameters: Any = self.get_base_layer()._parameters
        original = parameters[self.parameter_name]
        with undone(lambda: parameters.update({self.parameter_name: original})):
            parameters[self.parameter_name] = changed
            yield

    def _dtype_of_base(self) -> torch.dtype:
        return self.weight.dtype


def check_target_parameters(names: object, *, dropout: float) -> None:
    """Refuse what a config cannot mean by ``target_parameters``.

    Raises:
        SettingsError: It is no list of names, or goes with dropout.
    """
    if names is None:
        return
    if isinstance(names, str) or not isinstance(names, list | set | tuple):
        raise SettingsError(f"target_parameters must be a list of names or None, got {names!r}")
    if names and dropout:
        raise SettingsError(
            f"dropout of {dropout} has no place in target_parameters, whose changes are added to "
            "weights and never see an input: set it to 0"
        )
