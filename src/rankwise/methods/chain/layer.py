"""What an adapter's layer says and refuses while a chain of its adapter is open.

A chain puts a finished block aside and trains the next one, so for a while the history of the
adapter lies outside its parts. :class:`OpenedLayer` hides that from the outside: what the adapter
says of itself (``get_delta_weight``, ``lora_factors``) includes its history; and what PEFT would do
wrongly meanwhile (merge, unload, take a further adapter) is refused.

Two things differ between layers, and each is a mixin of its own. What the block is, how it begins
and what it comes to is said by the kind of adapter (``lora_block.py``, ``factored_block.py``).
Where the history lies is said by the kind of weight: in it (``merged_history.py``) or, where it is
quantised, beside it (``unmerged_history.py``).

They stand before the class of the layer among the bases, and such a class is put on and taken off a
living layer (``attach.py``), as FSDP2 does it. Hooks, parameters and the optimizer's references to
them stay as they are, and a model that is copied or pickled takes its chain along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from rankwise.core.errors import ChainError
from rankwise.functional.moments import turned
from rankwise.methods.adapters.bridge import is_sharded, is_transposed, whole
from rankwise.methods.adapters.stacks import packed, unpacked
from rankwise.methods.chain.config import ChainMark

Factors = tuple[Tensor, Tensor]
Sketches = Mapping[str, Tensor]
"""What is drawn for a block of one layer, by factor: ``B``, ``A`` or both."""

# A mixin in fact: a living layer takes another class only if what is added to its own is plain.
_Mixin = LoraLayer if TYPE_CHECKING else object


@dataclass
class History:
    """What an open chain remembers of one layer.

    Attributes:
        adapter_name: The adapter that the chain belongs to.
        plain: The class of the layer, which it gets back in the end.
        base: W₀, in the layout in which the layer stores its weight; None where it never changes.
        scaling: s of ΔW = s Σ Bᵢ Aᵢ.
        blocks: The finished factors (Bᵢ, Aᵢ), (out, k) and (k, in), where W₀ is; of a stack of
            experts (experts, out, k) and (experts, k, in).
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


@dataclass(frozen=True)
class Turn:
    """How the moments of a trained part turn into the coordinates of the next block.

    Attributes:
        left: T of m' = T m Sᵀ (:mod:`rankwise.functional.moments`); None: the identity.
        right: S of it.
        factor: ``B`` or ``A`` of PEFT's LoRA, whose stacks are stored in a layout of their own.
        experts: The number of matrices in such a stack.
    """

    left: Tensor | None
    right: Tensor | None
    factor: str = ""
    experts: int | None = None

    def of(self, moment: Tensor, *, is_squared: bool) -> Tensor:
        """Return a moment, or one of squares, in the new coordinates."""
        values = unpacked(self.factor, moment, self.experts)
        values = turned(values, self.left, self.right, is_squared=is_squared)
        return values if self.experts is None else packed(self.factor, values)


class OpenedLayer(_Mixin):
    """An adapter's layer that computes with W₀ + s Σ Bᵢ Aᵢ over the blocks of its history."""

    history: History

    def set_blocks(self, blocks: list[Factors], base: Tensor | None = None) -> None:
        """Make ``blocks`` the history, and note the largest magnitude of what it comes to.

        Args:
            base: W₀ where the layer computes, if it has been fetched already.
        """
        raise NotImplementedError

    def open_parts(self) -> dict[str, nn.Parameter]:
        """Map the names of the parts of the current block to their parameters."""
        raise NotImplementedError

    def frozen_parts_of_block(self) -> set[str]:
        """Return which of the parts do not train."""
        raise NotImplementedError

    def parts_beside_factors(self) -> dict[str, nn.Parameter]:
        """Return those parts of the current block that its factors do not give back."""
        raise NotImplementedError

    def open_factors(self) -> Factors:
        """Return B (..., out, k) and A (..., k, in) of the current block, without scaling."""
        raise NotImplementedError

    def has_change(self) -> bool:
        """Tell whether the current block changes the weight."""
        raise NotImplementedError

    def freeze_sketch(self, factor: str | None) -> None:
        """Freeze the factor of the block that stays as it is drawn, if one does."""
        raise NotImplementedError

    def restart_from(self, sketches: Sketches) -> None:
        """Write a block that changes nothing yet over the current one."""
        raise NotImplementedError

    def turns(self, sketches: Sketches) -> dict[nn.Parameter, Turn]:
        """Map the parameters that go on behind other sketches to how their moments turn then."""
        raise NotImplementedError

    def write_parts(self, parts: Mapping[str, Tensor]) -> None:
        """Give the parts of the current block other values, and their dtypes."""
        raise NotImplementedError

    def begin_block(self, sketches: Sketches) -> None:
        """Begin a block in the place of the current one, whose gradients go."""
        for parameter in self.open_parts().values():
            parameter.grad = None
        self.restart_from(sketches)

    def checked_factors(self) -> Factors:
        """Return the current factors (B, A) as they may be folded, whole, without scaling."""
        self.match_dtypes()
        self._check_scaling()
        B, A = map(whole, self.open_factors())
        return B, A

    def open_block(self) -> Factors:
        """Return a copy of the current factors (B, A), without scaling, where the history waits."""
        B, A = (part.to(self.history.device, copy=True) for part in self.checked_factors())
        return B, A

    def match_dtypes(self) -> None:
        """Give frozen parts the dtype that a trainer has cast the trained ones to, if need be."""

    def restore(self) -> None:
        """Drop the history: base and class are what they were before the chain."""
        self.set_blocks([])
        self.leave()

    def leave(self) -> None:
        """Take the class of before again, once the base is restored."""
        cast(Any, self).__class__ = self.history.plain
        del self.history

    def lora_factors(self, adapter_name: str) -> Factors:
        """Return (B, A) with ΔW = B A: the history and, unless it is zero, the current block."""
        if adapter_name != self.history.adapter_name:
            self._refuse(f"give the factors of adapter {adapter_name!r}")
        B, A = self.open_block()
        blocks = self.history.blocks
        if not blocks or self.has_change():
            blocks = [*blocks, (B, A)]
        stacked_B, stacked_A = stack(blocks, next(iter(self.open_parts().values())).device)
        return stacked_B * self.history.scaling, stacked_A

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return ΔW of the adapter, history included, in the layout of the weight."""
        if adapter != self.history.adapter_name:
            return cast(Any, super()).get_delta_weight(adapter)
        B, A = self.lora_factors(adapter)
        return self._in_own_layout(B @ A)

    def delete_adapter(self, adapter_name: str) -> None:
        """Delete the adapter; with the chain's own goes its history: the base is W₀ again."""
        if adapter_name != self.history.adapter_name:
            super().delete_adapter(adapter_name)
            return
        self.restore()
        cast(Any, self).delete_adapter(adapter_name)  # of its own class again

    def write_factors(self, adapter_name: str, *_: Tensor) -> NoReturn:
        """Refuse: an adapter is initialised before its chain begins."""
        self._refuse(f"initialise adapter {adapter_name!r}")

    def merge(self, *_: Any, **__: Any) -> None:
        """Refuse: unmerging could not give the weight of the chain back."""
        self._refuse("merge")

    def unload_and_optionally_merge_module(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse, as PEFT asks here before it unloads: the history would be lost or left behind."""
        self._refuse("unload")

    def _is_own(self, config: Any) -> bool:
        """Tell whether a config is the mark of this chain, for which PEFT makes a copy."""
        return isinstance(config, ChainMark) and config.adapter_name == self.history.adapter_name

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
        _joined([B for B, _ in blocks], device, dim=-1),
        _joined([A for _, A in blocks], device, dim=-2),
    )


def _joined(factors: Sequence[Tensor], device: torch.device, *, dim: int) -> Tensor:
    if device.type != "cuda" or not all(each.is_cpu for each in factors):
        return torch.cat([each.to(device) for each in factors], dim=dim)
    joined = torch.cat(tuple(factors), dim=dim)
    # From pinned memory nothing has to wait for them.
    return joined.pin_memory().to(device, non_blocking=True)


def cast_parameter(parameter: nn.Parameter, dtype: torch.dtype) -> None:
    """Give a parameter another dtype in place, as ``nn.Module.to`` does."""
    if parameter.dtype != dtype:
        parameter.grad = None
        parameter.data = parameter.data.to(dtype)
