"""Layers of an adapter while a chain is open: their base weight holds what blocks have learned.

With the adapter disabled, or another one active, the layer computes with its pretrained weight.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import torch
from peft.tuners import lora
from torch import Tensor, nn

from rankwise.methods.adapters.bridge import assign, is_sharded
from rankwise.methods.adapters.fused import lora_forward
from rankwise.methods.adapters.stacks import adapted_parameter, adapted_parameter_name
from rankwise.methods.chain.layer import Factors, OpenedLayer, largest_magnitude, stack
from rankwise.methods.chain.lora_block import LoraBlock


class FoldedLayer(OpenedLayer):
    """A layer whose base weight is round(W₀ + s Σ Bᵢ Aᵢ) over the blocks of its history."""

    @torch.no_grad()
    def set_blocks(self, blocks: list[Factors], base: Tensor | None = None) -> None:
        """Make ``blocks`` the history and write round(W₀ + s Σ Bᵢ Aᵢ), summed in float32 at least.

        The sum starts from W₀ each time, so the weight is one rounding away from it however many
        folds there were.
        """
        weight = self._base_parameter()
        base = cast(Tensor, self.history.base) if base is None else base
        folded = base
        if blocks:
            dtype = torch.promote_types(weight.dtype, torch.float32)
            B, A = (factor.to(dtype) for factor in stack(blocks, weight.device))
            change = self._in_own_layout((B * self.history.scaling) @ A)
            # W₀ is widened as it is added, and the sum rounded as it is written.
            place = change if is_sharded(weight) else weight.detach()
            folded = torch.add(change, base.to(weight.device), out=place)
        if is_sharded(weight) or not blocks:
            assign(weight, folded)
        self.history.blocks = blocks
        # As the weight's dtype has it, which may overflow where the sum does not.
        self.history.largest = largest_magnitude(folded).to(weight.dtype)

    @contextlib.contextmanager
    def _pretrained_weight(self) -> Iterator[None]:
        # Another Parameter, not other values in the same one: autograd may hold the folded weight
        # for a backward pass, as when a reference is computed between forward and backward.
        folded = self._base_parameter()
        base = cast(Tensor, self.history.base).to(folded.device, folded.dtype)
        pretrained: Any = nn.Parameter(base, requires_grad=False)
        pretrained.folded = folded
        self._put(pretrained)
        try:
            yield
        finally:
            self._put(folded)

    def _put(self, parameter: nn.Parameter) -> None:
        setattr(self.get_base_layer(), adapted_parameter_name(self), parameter)

    def _base_parameter(self) -> nn.Parameter:
        """Return the folded weight, put back first if an exception has left W₀ in its place."""
        weight = adapted_parameter(self)
        folded = getattr(weight, "folded", weight)
        if folded is not weight:
            self._put(folded)
        return folded


class FoldedLinear(FoldedLayer, LoraBlock, lora.Linear):
    """PEFT's LoRA over a linear layer."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Compute with the folded weight where the chain's adapter counts, with W₀ where not."""
        if self._is_counted(kwargs) or not self.history.blocks:
            self._base_parameter()
            return lora_forward(self, x, *args, **kwargs)
        with self._pretrained_weight():
            return lora.Linear.forward(self, x, *args, **kwargs)


class FoldedParameter(FoldedLayer, LoraBlock, lora.ParamWrapper):
    """PEFT's LoRA over a parameter of a module, as the weights of experts."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Compute with the folded weight where the chain's adapter counts, with W₀ where not."""
        if self._is_counted(kwargs) or not self.history.blocks:
            self._base_parameter()
            return lora.ParamWrapper.forward(self, x, *args, **kwargs)
        with self._pretrained_weight():
            return lora.ParamWrapper.forward(self, x, *args, **kwargs)
