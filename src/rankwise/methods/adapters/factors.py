"""The tensors of an adapter as modules, and what is computed of the frozen ones but once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rankwise.methods.adapters.undrawn import Undrawn

TINY = 1e-6  # below this no factor made of a weight moves it by what training can give


class Factor(nn.Module):
    """A tensor of an adapter, ``weight``, and where it is a matrix its product with vectors."""

    def __init__(self, shape: Sequence[int], *, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(*shape, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Return W x for inputs (..., in)."""
        return nn.functional.linear(x, self.weight)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        if type(weight := self.weight) is Undrawn:
            weight.start.put_off_in(self, lambda: super(Factor, self)._apply(fn, recurse))
            return self
        return super()._apply(fn, recurse)

    def extra_repr(self) -> str:
        """Show the shape."""
        return " x ".join(map(str, self.weight.shape))


class ReadFactor(Factor):
    """A factor whose layer reads ``weight`` and does not call the module.

    PEFT's policy for FSDP gives each leaf with a trained weight a shard of its own, which is whole
    only while that module is called. So this is no leaf.
    """

    def __init__(self, shape: Sequence[int], *, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(shape, device=device, dtype=dtype)
        self.inner = nn.Identity()


class Kept:
    """Values computed of frozen tensors, and what these were then.

    Tensors that were written, moved, cast or replaced since are told apart by autograd's counter of
    versions, their memory and themselves. What is written past that counter, through ``.data``,
    shows when the layer next changes between training and evaluation.
    """

    def __init__(self, sources: Sequence[Tensor], dtype: torch.dtype, values: list[Tensor]) -> None:
        self.values = values
        # Held, so that no other tensor takes their identity, and no other values their memory.
        self._memory = [source.detach() for source in sources]
        self._dtype = dtype
        self._states = [(each, each._version, each.data_ptr()) for each in sources]

    def is_of(self, sources: Sequence[Tensor], dtype: torch.dtype) -> bool:
        """Tell whether the values are those of ``sources`` as they are now, in ``dtype``."""
        if dtype is not self._dtype:
            return False
        for source, (then, version, pointer) in zip(sources, self._states, strict=True):
            if (
                source is not then
                or source._version != version
                or source.data_ptr() != pointer
                or source.requires_grad
            ):
                return False
        return True


def is_keepable(layer: nn.Module, sources: Sequence[Tensor]) -> bool:
    """Tell whether what ``layer`` computes of these frozen tensors may be kept."""
    # FSDP brings its parameters anew for each pass, into memory of which nothing may be kept.
    if torch.compiler.is_compiling() or getattr(layer, "_is_fsdp_managed_module", False):
        return False
    if torch.is_inference_mode_enabled() or torch._C._are_functorch_transforms_active():
        return False
    return not any(
        type(source) is not nn.Parameter
        or source.requires_grad
        or source.is_inference()
        or hasattr(source, "ds_id")  # DeepSpeed's ZeRO-3
        for source in sources
    )
