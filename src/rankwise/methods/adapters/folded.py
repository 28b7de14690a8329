"""PEFT's LoRA linear layer while a chain is open: its base weight holds what blocks have learned.

A chain folds a finished block into the base weight and trains the next one beside it, so for a
while the history of the adapter lies in the base. :class:`FoldedLinear` hides that from the
outside: what the adapter says of itself (``get_delta_weight``, ``lora_factors``) includes its
history; with the adapter disabled, or another one active, the layer computes with its pretrained
weight; and what PEFT would do wrongly with a folded weight (merge, unload, take a further adapter)
is refused.

The class is put on and taken off a living layer (:func:`open_layer`, :func:`close_layer`), as FSDP2
does it: hooks, parameters and the optimizer's references to them stay as they are, and a model that
is copied or pickled takes its chain along.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import torch
from peft.tuners import lora
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rankwise.core.errors import ChainError, ModelError
from rankwise.methods.adapters.bridge import adapter_parameters, freeze

Factors = tuple[Tensor, Tensor]


@dataclass
class History:
    """What an open chain remembers of one layer, all of it off the accelerator.

    Attributes:
        adapter_name: The adapter that the chain belongs to.
        base: W₀, in the layout in which the layer stores its weight.
        scaling: s of ΔW = s Σ Bᵢ Aᵢ.
        blocks: The folded factors (Bᵢ, Aᵢ), (out, r) and (r, in).
    """

    adapter_name: str
    base: Tensor
    scaling: float
    blocks: list[Factors] = field(default_factory=list)


class FoldedLinear(lora.Linear):
    """A LoRA layer whose base weight is round(W₀ + s Σ Bᵢ Aᵢ) over the blocks of its history."""

    history: History

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Compute with the folded weight where the chain's adapter counts, with W₀ where not."""
        if kwargs.get("adapter_names") is not None:
            self._refuse("mix adapters within a batch")
        is_counted = self.history.adapter_name in self.active_adapters and not self.disable_adapters
        if is_counted or not self.history.blocks:
            return super().forward(x, *args, **kwargs)
        with self._pretrained_weight():
            return super().forward(x, *args, **kwargs)

    def open_block(self) -> Factors:
        """Return a copy of the current factors (B, A), off the accelerator and without scaling."""
        parts = adapter_parameters(self, self.history.adapter_name)
        B, A = (parts[part].detach().to("cpu", copy=True) for part in ("lora_B", "lora_A"))
        return B, A

    def set_blocks(self, blocks: list[Factors]) -> None:
        """Make ``blocks`` the history and write round(W₀ + s Σ Bᵢ Aᵢ), summed in float32 at least.

        The sum starts from W₀ each time, so the weight is one rounding away from it however many
        folds there were.
        """
        self.history.blocks = blocks
        weight = _base_parameter(self)
        folded = self.history.base
        if blocks:
            dtype = torch.promote_types(weight.dtype, torch.float32)
            B, A = (factor.to(weight.device, dtype) for factor in _stack(blocks))
            folded = folded.to(B) + self._in_own_layout((B * self.history.scaling) @ A)
        with torch.no_grad():
            weight.copy_(folded)

    def lora_factors(self, adapter_name: str) -> Factors:
        """Return (B, A) with ΔW = B A: the history and, unless it is zero, the current block."""
        if adapter_name != self.history.adapter_name:
            self._refuse(f"give the factors of adapter {adapter_name!r}")
        B, A = self.open_block()
        blocks = self.history.blocks
        if not blocks or (B.any() and A.any()):
            blocks = [*blocks, (B, A)]
        device = _base_parameter(self).device
        stacked_B, stacked_A = (factor.to(device) for factor in _stack(blocks))
        return stacked_B * self.history.scaling, stacked_A

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return ΔW of the adapter, history included, in the layout of the weight."""
        if adapter != self.history.adapter_name:
            return super().get_delta_weight(adapter)
        B, A = self.lora_factors(adapter)
        return self._in_own_layout(B @ A)

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete the adapter; with the chain's own goes its history: the base is W₀ again."""
        if adapter_name == self.history.adapter_name:
            _restore(self)  # from here on the layer is PEFT's own again
        lora.Linear.delete_adapter(self, adapter_name)

    def update_layer(self, adapter_name: str, *_: Any, **__: Any) -> NoReturn:
        """Refuse a further adapter: it may be meant as a mixture of this one."""
        self._refuse(f"add adapter {adapter_name!r}")

    def write_factors(self, adapter_name: str, *_: Tensor) -> NoReturn:
        """Refuse: an adapter is initialised before its chain begins."""
        self._refuse(f"initialise adapter {adapter_name!r}")

    def merge(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: unmerging could not give the folded weight back."""
        self._refuse("merge")

    def unload_and_optionally_merge_module(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse, as PEFT asks here before it unloads: the base would be left with its folds."""
        self._refuse("unload")

    def _refuse(self, action: str) -> NoReturn:
        raise ChainError(
            f"cannot {action} while the chain of adapter {self.history.adapter_name!r} is open "
            f"({len(self.history.blocks)} blocks lie folded in the base): finish the chain first"
        )

    def _in_own_layout(self, matrix: Tensor) -> Tensor:
        return matrix.T if self.fan_in_fan_out else matrix

    @contextlib.contextmanager
    def _pretrained_weight(self) -> Iterator[None]:
        # Another Parameter, not other values in the same one: autograd may hold the folded weight
        # for a backward pass, as when a reference is computed between forward and backward.
        folded = _base_parameter(self)
        base = self.history.base.to(folded.device, folded.dtype)
        self.get_base_layer().weight = nn.Parameter(base, requires_grad=False)
        try:
            yield
        finally:
            self.get_base_layer().weight = folded


def check_foldable(name: str, layer: BaseTunerLayer) -> None:
    """Refuse a layer whose base weight cannot be folded into.

    Raises:
        ModelError: The layer is in a chain already or no plain linear one, or its weight is
            quantised, sharded, offloaded or trained itself.
    """
    if isinstance(layer, FoldedLinear):
        raise ModelError(f"{name} is in an open chain already: finish that one first")
    weight = getattr(layer.get_base_layer(), "weight", None)
    is_plain = type(weight) is nn.Parameter and weight.is_floating_point() and not weight.is_meta
    if type(layer) is not lora.Linear or layer.quantization_backend is not None or not is_plain:
        raise ModelError(
            f"{name} is a {type(layer).__name__} over {type(layer.get_base_layer()).__name__} with "
            f"a weight of {getattr(weight, 'dtype', None)}: a chain folds into plain "
            "floating-point linear layers only; target these, in a model not quantised, sharded or "
            "offloaded"
        )
    if _base_parameter(layer).requires_grad:
        raise ModelError(f"the base weight of {name} is trained itself: freeze it before the chain")


def open_layer(layer: BaseTunerLayer, adapter_name: str) -> FoldedLinear:
    """Turn a LoRA layer that :func:`check_foldable` accepts into a folded one without any block."""
    layer.__class__ = FoldedLinear
    opened = cast(FoldedLinear, layer)
    base = _base_parameter(opened).detach().to("cpu", copy=True)
    opened.history = History(adapter_name, base, opened.scaling[adapter_name])
    return opened


def close_layer(layer: FoldedLinear, B: Tensor, A: Tensor) -> None:
    """Restore W₀ and leave a plain LoRA with ΔW = B A beside it: scaling 1, both factors train."""
    name = layer.history.adapter_name
    _restore(layer)
    layer.r[name] = layer.lora_alpha[name] = len(A)
    layer.scaling[name], layer.use_rslora[name] = 1.0, False
    for container, factor in ((layer.lora_A, A), (layer.lora_B, B)):
        linear = cast(nn.Linear, container[name])
        linear.out_features, linear.in_features = factor.shape
        linear.weight = nn.Parameter(factor.to(linear.weight.dtype).contiguous())
    freeze(layer, name, ())


def _restore(layer: FoldedLinear) -> None:
    layer.set_blocks([])
    del layer.history
    cast(Any, layer).__class__ = lora.Linear


def _stack(blocks: list[Factors]) -> Factors:
    return torch.cat([B for B, _ in blocks], dim=1), torch.cat([A for _, A in blocks], dim=0)


def _base_parameter(layer: BaseTunerLayer) -> nn.Parameter:
    return cast(nn.Parameter, layer.get_base_layer().weight)
