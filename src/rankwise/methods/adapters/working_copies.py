"""Copies of factors in the dtype in which fused layers compute, all made by one operation.

A fused layer rounds the master of a factor itself, and autograd casts each gradient back: two
operations a factor and step. Where these are hundreds of small ones, to start them takes longer
than to compute. Here a layer is given a copy, all copies are made at once, and so are the masters'
gradients of theirs. The values are the same, bit for bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rankwise.core.autocast import without_autocast


class WorkingCopies:
    """Of some masters, those copies for which layers have asked."""

    def __init__(self, masters: Sequence[nn.Parameter]) -> None:
        self._masters = masters
        self._numbers = {id(master): number for number, master in enumerate(masters)}
        self._copies: dict[tuple[int, torch.dtype, int], Tensor] = {}
        self._uses: Counter[int] = Counter()

    def of(self, factor: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a copy of a master to compute with in ``dtype``; other factors as they are.

        Each use in a pass has a copy of its own: gradients of several are added up in the master's
        dtype.
        """
        number = self._numbers.get(id(factor))
        if number is None or factor.dtype is dtype or not torch.is_grad_enabled():
            return factor
        if torch.compiler.is_compiling():
            return factor
        key = number, dtype, self._uses[number]
        self._uses[number] += 1
        if key not in self._copies:
            self._copies[key] = factor.detach().to(dtype).requires_grad_(factor.requires_grad)
        return self._copies[key]

    @torch.no_grad()
    def refresh(self) -> None:
        """Give all copies their masters' values, before a pass."""
        self._uses.clear()
        if self._copies:
            masters = [self._masters[number] for number, *_ in self._copies]
            _copy(masters, list(self._copies.values()))

    def gradients(self, loss: Tensor) -> list[Tensor | None]:
        """Return a gradient for each master on which ``loss`` depends, else None."""
        keys = list(self._copies)  # a pass that is computed again meanwhile asks for more
        inputs = [*self._masters, *self._copies.values()]
        with without_autocast():
            found = torch.autograd.grad(loss, inputs, allow_unused=True)
        total: list[Tensor | None] = list(found[: len(self._masters)])
        narrow = found[len(self._masters) :]
        used = [(key[0], each) for key, each in zip(keys, narrow, strict=True) if each is not None]
        wide: list[Tensor] = [torch.empty_like(self._masters[number]) for number, _ in used]
        if used:
            _copy([each for _, each in used], wide)
        # Added up as autograd does: the last use first.
        for (number, _), gradient in reversed([*zip(used, wide, strict=True)]):
            rest = total[number]
            total[number] = gradient if rest is None else rest + gradient
        return total


def _copy(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Copy the values of some tensors to as many of other dtypes by one operation."""
    torch._foreach_copy_(targets, sources)  # type: ignore[reportPrivateImportUsage]
