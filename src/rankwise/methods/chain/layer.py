"""What a LoRA layer says and refuses while a chain of its adapter is open.

A chain puts a finished block aside and trains the next one, so for a while the history of the
adapter lies outside its factors. :class:`OpenedLayer` hides that from the outside: what the adapter
says of itself (``get_delta_weight``, ``lora_factors``) includes its history; and what PEFT would do
wrongly meanwhile (merge, unload, take a further adapter) is refused. Where the history lies is said
by its two kinds: in the base weight (``merged_history.py``) or, where that is quantised, beside it
(``unmerged_history.py``).

It is a mixin: its two kinds stand before PEFT's class of the layer among the bases, and such a
class is put on and taken off a living layer (``attach.py``), as FSDP2 does it. Hooks, parameters
and the optimizer's references to them stay as they are, and a model that is copied or pickled takes
its chain along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from rankwise.core.errors import ChainError
from rankwise.methods.adapters.bridge import (
    adapter_parameters,
    is_sharded,
    is_transposed,
    whole,
)
from rankwise.methods.adapters.stacks import number_of_experts, unpacked
from rankwise.methods.chain.config import ChainConfig

Factors = tuple[Tensor, Tensor]

# A mixin in fact: a living layer takes another class only if what is added to its own is plain.
_Mixin = LoraLayer if TYPE_CHECKING else object


@dataclass
class History:
    """What an open chain remembers of one layer.

    Attributes:
        adapter_name: The adapter that the chain belongs to.
        plain: PEFT's class of the layer, which it gets back in the end.
        base: W₀, in the layout in which the layer stores its weight; None where it never changes.
        scaling: s of ΔW = s Σ Bᵢ Aᵢ.
        blocks: The finished factors (Bᵢ, Aᵢ), (out, r) and (r, in), where W₀ is; of a stack of
            experts (experts, out, r) and (experts, r, in).
        largest: The largest magnitude of what they come to, a tensor () so that nothing waits for
            it: not finite where that is not.
    """

    adapter_name: str
    plain: type
    base: Tensor | None
    scaling: float
    blocks: list[Factors] = field(default_factory=list)
    largest: Tensor = field(default_factory=lambda: torch.tensor(0.0))

    @property
    def device(self) -> torch.device:
        """Where it waits between folds: off the accelerator, unless it was moved there."""
        return torch.device("cpu") if self.base is None else self.base.device

    @property
    def nbytes(self) -> int:
        """The bytes that it takes."""
        factors = [factor for block in self.blocks for factor in block]
        return sum(each.nbytes for each in (*factors, self.base) if each is not None)

    def move(self, device: torch.device) -> None:
        """Let it wait on another device."""
        base = None if self.base is None else self.base.to(device)
        self.blocks = [(B.to(device), A.to(device)) for B, A in self.blocks]
        self.base = base


def largest_magnitude(values: Tensor) -> Tensor:
    """Return the largest magnitude, a tensor (); NaN if one of the values is."""
    if values.device.type != "cpu" or is_sharded(values):
        return torch.linalg.vector_norm(values, torch.inf)  # one operation
    lowest, highest = torch.aminmax(values)  # there 15 times as fast
    return torch.maximum(-lowest, highest)


class OpenedLayer(_Mixin):
    """A LoRA layer that computes with W₀ + s Σ Bᵢ Aᵢ over the blocks of its history."""

    history: History

    def set_blocks(self, blocks: list[Factors], base: Tensor | None = None) -> None:
        """Make ``blocks`` the history, and note the largest magnitude of what it comes to.

        Args:
            base: W₀ where the layer computes, if it has been fetched already.
        """
        raise NotImplementedError

    def open_block(self) -> Factors:
        """Return a copy of the current factors (B, A), without scaling, where the history waits."""
        self.match_dtypes()
        self._check_scaling()
        device = self.history.device
        B, A = (whole(part).to(device, copy=True) for part in self.open_factors())
        return B, A

    def open_factors(self) -> Factors:
        """Return the current factors B (..., out, r) and A (..., r, in), views of their memory."""
        experts = number_of_experts(self)
        B, A = (
            unpacked(factor, parameter.detach(), experts)
            for factor, parameter in zip("BA", self.open_parameters(), strict=True)
        )
        return B, A

    def open_parameters(self) -> tuple[nn.Parameter, nn.Parameter]:
        """Return the parameters that hold the current factors B and A."""
        parts = adapter_parameters(self, self.history.adapter_name)
        return parts["lora_B"], parts["lora_A"]

    def match_dtypes(self) -> None:
        """Give a frozen sketch the dtype that a trainer has cast the trained factor to.

        TRL casts what trains over a quantised weight to bfloat16, and nothing else.
        """
        name = self.history.adapter_name
        frozen = self.frozen_peft_weight_names.get(name, ())
        parts = adapter_parameters(self, name)
        B, A = parts["lora_B"], parts["lora_A"]
        if frozen and B.dtype != A.dtype:
            (trained,) = parts.keys() - set(frozen)
            for part in frozen:
                cast_parameter(parts[part], parts[trained].dtype)

    def restore(self) -> None:
        """Drop the history: base and class are what they were before the chain."""
        self.set_blocks([])
        self.leave()

    def leave(self) -> None:
        """Take PEFT's class again, once the base is restored."""
        cast(Any, self).__class__ = self.history.plain
        del self.history

    def lora_factors(self, adapter_name: str) -> Factors:
        """Return (B, A) with ΔW = B A: the history and, unless it is zero, the current block."""
        if adapter_name != self.history.adapter_name:
            self._refuse(f"give the factors of adapter {adapter_name!r}")
        B, A = self.open_block()
        blocks = self.history.blocks
        if not blocks or (B.any() and A.any()):
            blocks = [*blocks, (B, A)]
        device = self.open_parameters()[0].device
        stacked_B, stacked_A = stack(blocks, device)
        return stacked_B * self.history.scaling, stacked_A

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return ΔW of the adapter, history included, in the layout of the weight."""
        if adapter != self.history.adapter_name:
            return cast(Any, super()).get_delta_weight(adapter)
        B, A = self.lora_factors(adapter)
        return self._in_own_layout(B @ A)

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete the adapter; with the chain's own goes its history: the base is W₀ again."""
        if adapter_name == self.history.adapter_name:
            self.restore()  # from here on the layer is PEFT's own again
        LoraLayer.delete_adapter(self, adapter_name)

    def update_layer(self, adapter_name: str, *args: Any, config: Any = None, **kw: Any) -> None:
        """Take a copy of the chain's own adapter, as TRL's trainers make one for their reference.

        Its place is beside W₀, so that it has to be made before a block is folded. A further
        adapter is refused: it may be meant as a mixture of this one.
        """
        if not isinstance(config, ChainConfig) or config.adapter_name != self.history.adapter_name:
            self._refuse(f"add adapter {adapter_name!r}")
        if self.history.blocks:
            raise ChainError(
                f"cannot copy adapter {self.history.adapter_name!r} as {adapter_name!r}: "
                f"{len(self.history.blocks)} blocks of its chain lie folded in the base, and the "
                "copy would go without. Make the chain of an adapter that has learned nothing yet "
                "(merge what it has learned into the base), or give the trainer a ref_model"
            )
        config.enter_copy(adapter_name)
        super().update_layer(adapter_name, *args, config=config, **kw)

    def write_factors(self, adapter_name: str, *_: Tensor) -> NoReturn:
        """Refuse: an adapter is initialised before its chain begins."""
        self._refuse(f"initialise adapter {adapter_name!r}")

    def merge(self, *_: Any, **__: Any) -> None:
        """Refuse: unmerging could not give the weight of the chain back."""
        self._refuse("merge")

    def unload_and_optionally_merge_module(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse, as PEFT asks here before it unloads: the history would be lost or left behind."""
        self._refuse("unload")

    def _is_counted(self, kwargs: dict[str, Any]) -> bool:
        """Tell whether the chain's adapter acts in a forward pass with these arguments."""
        if kwargs.get("adapter_names") is not None:
            self._refuse("mix adapters within a batch")
        self.match_dtypes()
        is_counted = self.history.adapter_name in self.active_adapters and not self.disable_adapters
        if is_counted:
            self._check_scaling()
        return is_counted

    def _check_scaling(self) -> None:
        """Refuse a scaling changed since the chain began: it would reach the open block alone."""
        name, expected = self.history.adapter_name, self.history.scaling
        if self.scaling[name] != expected:
            self._refuse(f"compute with a scaling of {self.scaling[name]} instead of {expected}")

    def _in_own_layout(self, matrix: Tensor) -> Tensor:
        return matrix.mT if is_transposed(self) else matrix

    def _refuse(self, action: str) -> NoReturn:
        raise ChainError(
            f"cannot {action} while the chain of adapter {self.history.adapter_name!r} is open "
            f"({len(self.history.blocks)} blocks lie folded in the base): finish the chain first"
        )


def stack(blocks: Sequence[Factors], device: torch.device) -> Factors:
    """Return [B₁ B₂ …] and [A₁; A₂; …], whose product is the sum of the blocks' own."""
    return (
        torch.cat([B.to(device) for B, _ in blocks], dim=-1),
        torch.cat([A.to(device) for _, A in blocks], dim=-2),
    )


def cast_parameter(parameter: nn.Parameter, dtype: torch.dtype) -> None:
    """Give a parameter another dtype in place, as ``nn.Module.to`` does."""
    if parameter.dtype != dtype:
        parameter.grad = None
        parameter.data = parameter.data.to(dtype)
