"""Gradients whose first steps are factored together, layers of one shape at a time.

On an accelerator the small factorizations inside a decomposition take as long for four layers as
for one. So gradients wait, within a bound of memory, until there are several of their shape. On a
CPU each is factored at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from rankwise.functional.product import Product
from rankwise.functional.svd import Blocks, truncated_svds
from rankwise.functional.update import factors_of

WAITING_BYTES = 768 * 2**20
MOST_TOGETHER = 8

Update = tuple[Tensor, Tensor, Tensor]
Key = TypeVar("Key", bound=Hashable)
Kind = tuple[int, torch.Size | tuple[int, int], torch.dtype, torch.device]


@dataclass(frozen=True)
class _Waiting(Generic[Key]):
    name: Key
    ascent: Tensor
    generator: torch.Generator

    @property
    def bytes(self) -> int:
        return self.ascent.numel() * self.ascent.itemsize


class FactoredTogether(Generic[Key]):
    """Factors ascent directions into B, R and A and hands each one's to ``consume``."""

    def __init__(
        self, consume: Callable[[Key, Update], None], *, lr: float, blocks: Blocks = "auto"
    ) -> None:
        self._consume = consume
        self._lr = lr
        self._blocks: Blocks = blocks
        self._groups: dict[Kind, list[_Waiting[Key]]] = defaultdict(list)

    def add(self, name: Key, ascent: Tensor | Product, *, r: int, seed: int) -> None:
        """Take in what the first step of a layer goes against, and factor what need not wait."""
        generator = torch.Generator(ascent.device).manual_seed(seed)
        waits = self._blocks == "wide" or (self._blocks == "auto" and ascent.device.type != "cpu")
        if not waits:
            self._factor([name], [ascent], r, [generator])
            return
        dense = ascent if isinstance(ascent, Tensor) else ascent.dense()
        group = self._groups[r, dense.shape, dense.dtype, dense.device]
        group.append(_Waiting(name, dense, generator))
        if len(group) == MOST_TOGETHER or self._waiting_bytes() > WAITING_BYTES:
            self._factor_group(max(self._groups, key=self._bytes_of))

    def finish(self) -> None:
        """Factor what still waits."""
        for kind in list(self._groups):
            self._factor_group(kind)

    def _waiting_bytes(self) -> int:
        return sum(map(self._bytes_of, self._groups))

    def _bytes_of(self, kind: Kind) -> int:
        return sum(each.bytes for each in self._groups[kind])

    def _factor_group(self, kind: Kind) -> None:
        group = self._groups.pop(kind)
        names, generators = [each.name for each in group], [each.generator for each in group]
        self._factor(names, [each.ascent for each in group], kind[0], generators)

    def _factor(
        self,
        names: list[Key],
        ascents: list[Tensor] | list[Tensor | Product],
        r: int,
        generators: list[torch.Generator],
    ) -> None:
        found = truncated_svds(ascents, r, generators=generators, blocks=self._blocks)
        for name, triplets in zip(names, found, strict=True):
            self._consume(name, factors_of(triplets, self._lr))
