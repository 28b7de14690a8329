"""The block of a chain in our own layers: ΔW = s B M A, which begins anew at exactly zero.

LoRA-XS takes new frozen factors and a core of zero; DeLoRA takes new directions, the frozen copies
of them, its first λ, and keeps the norms n of W₀'s columns, so that all blocks are measured alike.
Each says so by ``restart``, ``is_zero`` and ``own_factors`` of its layer, and nothing here asks
which of them it is. A finished block is put aside as its two factors (B M, A), which are exact.
"""

# The mixins are written against PEFT's LoraLayer, whose signatures ours differ from in names alone.
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from rankwise.core.errors import ChainError
from rankwise.functional.moments import turn_between
from rankwise.methods.adapters.bridge import assign
from rankwise.methods.adapters.delora import DeloraExperts, DeloraLinear
from rankwise.methods.adapters.lora_xs import LoraXSExperts, LoraXSLinear
from rankwise.methods.chain.layer import Factors, OpenedLayer, Sketches, Turn, cast_parameter
from rankwise.methods.chain.merged_history import FoldedLayer
from rankwise.methods.chain.unmerged_history import BesideLinear


class FactoredBlock(OpenedLayer):
    """A layer of ours in an open chain."""

    def open_parts(self) -> dict[str, nn.Parameter]:
        """Map the names of all parts, the frozen ones too, to their parameters."""
        layer, name = cast(Any, self), self.history.adapter_name
        return {part: getattr(layer, part)[name].weight for part in layer.part_names}

    def frozen_parts_of_block(self) -> set[str]:
        """Return the names of the frozen parts."""
        return set(self.frozen_peft_weight_names.get(self.history.adapter_name, ()))

    def parts_beside_factors(self) -> dict[str, nn.Parameter]:
        """Return all parts."""
        return self.open_parts()

    @torch.no_grad()
    def open_factors(self) -> Factors:
        """Return B M (..., out, k) and A (..., k, in) of the current block."""
        B, M, A = cast(Any, self).product(self.history.adapter_name)
        return B if M is None else B @ M, A

    def has_change(self) -> bool:
        """Tell whether the block is at zero no more."""
        return not cast(Any, self).is_zero(self.history.adapter_name)

    def freeze_sketch(self, factor: str | None) -> None:
        """Leave all as it is: what is frozen of these adapters is frozen always."""
        assert factor is None

    def restart_from(self, sketches: Sketches) -> None:
        """Begin at zero in the directions of two sketches."""
        cast(Any, self).restart(self.history.adapter_name, sketches["B"], sketches["A"])

    def turns(self, sketches: Sketches) -> dict[nn.Parameter, Turn]:
        """Map the core to the turns of the factors on its two sides."""
        layer = cast(Any, self)
        B, _, A = layer.product(self.history.adapter_name)
        left = turn_between(B, sketches["B"])
        right = turn_between(A.mT, sketches["A"].mT)
        return {self.open_parts()[layer.core_name]: Turn(left, right)}

    def write_parts(self, parts: Mapping[str, Tensor]) -> None:
        """Give the parts other values, and their dtypes."""
        for part, parameter in self.open_parts().items():
            cast_parameter(parameter, parts[part].dtype)
            assign(parameter, parts[part])

    def update_layer(self, adapter_name: str, *_: Any, config: Any = None, **__: Any) -> NoReturn:
        """Refuse a further adapter, also a copy of this one: in the end the layer is a LoRA's."""
        if self._is_own(config):
            raise ChainError(
                f"cannot copy adapter {self.history.adapter_name!r} as {adapter_name!r}, as its "
                "layers become those of a plain LoRA when its chain ends: give the trainer a "
                "ref_model, or train without a reference"
            )
        self._refuse(f"add adapter {adapter_name!r}")


class FoldedFactored(FoldedLayer, FactoredBlock):
    """Such a layer whose weight holds the finished blocks."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute with the folded weight where the chain's adapter counts, with W₀ where not."""
        forward = cast(Any, super()).forward
        if self._is_counted(kwargs) or not self.history.blocks:
            self._base_parameter()
            return forward(*args, **kwargs)
        with self._pretrained_weight():
            return forward(*args, **kwargs)


class FoldedXSLinear(FoldedFactored, LoraXSLinear):
    """LoRA-XS over a linear layer."""


class FoldedXSExperts(FoldedFactored, LoraXSExperts):
    """LoRA-XS over a stack of experts."""


class FoldedDeloraLinear(FoldedFactored, DeloraLinear):
    """DeLoRA over a linear layer."""


class FoldedDeloraExperts(FoldedFactored, DeloraExperts):
    """DeLoRA over a stack of experts."""


class BesideXSLinear(BesideLinear, FactoredBlock, LoraXSLinear):
    """LoRA-XS over a quantised linear layer."""


class BesideDeloraLinear(BesideLinear, FactoredBlock, DeloraLinear):
    """DeLoRA over a quantised linear layer."""


FOLDED: dict[type, type[OpenedLayer]] = {
    LoraXSLinear: FoldedXSLinear,
    LoraXSExperts: FoldedXSExperts,
    DeloraLinear: FoldedDeloraLinear,
    DeloraExperts: FoldedDeloraExperts,
}
"""The class of a layer, and the one it has while a chain is open over a plain weight."""

BESIDE_OURS: dict[type, type[OpenedLayer]] = {
    LoraXSLinear: BesideXSLinear,
    DeloraLinear: BesideDeloraLinear,
}
"""The same over a quantised weight."""
