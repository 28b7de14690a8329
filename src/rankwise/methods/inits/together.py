"""Gradients whose first steps are factored together, layers of one shape at a time.

On an accelerator every operation has a price of its own, and every number that the host asks for
makes it wait. So gradients wait for others of their shape, within a bound of memory; a group is
looked at once, whether all are finite and none is zero, and starts as many operations as a single
one. Signs wait in one byte and are factored in two, where the device multiplies these into float32;
a product of two factors waits as these, where they are the smaller. On a CPU each is factored at
once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from rankwise.functional.product import Product, has_wide_results
from rankwise.functional.svd import Blocks, decomposed_stack, truncated_svds
from rankwise.functional.update import factors_of

WAITING_BYTES = 2 * 2**30
FACTORED_BYTES = 2 * 2**30  # of the matrices of a group, in the dtype in which they are factored
MOST_TOGETHER = 16

Update = tuple[Tensor, Tensor, Tensor]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class _Kind:
    """What matrices have to share to be factored together."""

    r: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes(self) -> int:
        """What one of them takes while it is factored."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def most(self) -> int:
        """How many of them are factored together."""
        return max(1, min(MOST_TOGETHER, FACTORED_BYTES // self.bytes))


@dataclass(frozen=True)
class _Waiting(Generic[Key]):
    name: Key
    ascent: Tensor | Product
    generator: torch.Generator
    size: Tensor | None

    @property
    def bytes(self) -> int:
        return _bytes(self.ascent)


class FactoredTogether(Generic[Key]):
    """Factors ascent directions into B, R and A and hands each one's to ``consume``.

    Args:
        consume: Gets the name and the factors of each.
        is_wanted: Asked of each one that has waited, with the largest magnitude of its numbers: a
            number that is zero, or not finite, as they are. What is not wanted is left out.
        lr: Learning rate of the step.
        blocks: How they are decomposed; see :func:`rankwise.functional.svd.truncated_svd`.
    """

    def __init__(
        self,
        consume: Callable[[Key, Update], None],
        *,
        is_wanted: Callable[[Key, float], bool],
        lr: float,
        blocks: Blocks = "auto",
    ) -> None:
        self._consume = consume
        self._is_wanted = is_wanted
        self._lr = lr
        self._blocks: Blocks = blocks
        self._groups: dict[_Kind, list[_Waiting[Key]]] = defaultdict(list)

    def waits(self, device: torch.device) -> bool:
        """Tell whether what lies on a device waits for others of its shape."""
        return self._blocks == "wide" or (self._blocks == "auto" and device.type != "cpu")

    def add(self, name: Key, ascent: Tensor | Product, *, r: int, seed: int) -> None:
        """Take in what the first step of a layer goes against, and factor what need not wait."""
        if self.waits(ascent.device):
            self._add(name, ascent, None, kind=_kind(r, ascent), seed=seed)
            return
        generator = torch.Generator(ascent.device).manual_seed(seed)
        (triplets,) = truncated_svds([ascent], r, generators=[generator], blocks=self._blocks)
        self._consume(name, factors_of(triplets, self._lr))

    def add_signs(self, name: Key, gradient: Tensor, *, r: int, seed: int) -> None:
        """Take in a gradient of whose signs the first step consists, to wait for others."""
        signs, kind = gradient.sign().to(torch.int8), _kind(r, gradient)
        if kind.dtype == torch.float32 and has_wide_results(kind.device):
            kind = replace(kind, dtype=torch.bfloat16)
        self._add(name, signs, largest(gradient), kind=kind, seed=seed)

    def add_changed(
        self, name: Key, ascent: Tensor, gradient: Tensor, *, r: int, seed: int
    ) -> None:
        """Take in a direction to wait for others that tells no longer of its gradient."""
        self._add(name, ascent, largest(gradient), kind=_kind(r, ascent), seed=seed)

    def finish(self) -> None:
        """Factor what still waits."""
        for kind in list(self._groups):
            self._factor_group(kind)

    def _add(
        self,
        name: Key,
        ascent: Tensor | Product,
        size: Tensor | None,
        *,
        kind: _Kind,
        seed: int,
    ) -> None:
        if isinstance(ascent, Product) and _bytes(ascent) > kind.bytes:
            ascent = ascent.dense()
        generator = torch.Generator(kind.device).manual_seed(seed)
        group = self._groups[kind]
        group.append(_Waiting(name, ascent, generator, size))
        if len(group) == kind.most:
            self._factor_group(kind)
        elif self._waiting_bytes() > WAITING_BYTES:
            self._factor_group(max(self._groups, key=self._bytes_of))

    def _waiting_bytes(self) -> int:
        return sum(map(self._bytes_of, self._groups))

    def _bytes_of(self, kind: _Kind) -> int:
        return sum(each.bytes for each in self._groups[kind])

    def _factor_group(self, kind: _Kind) -> None:
        group = self._groups.pop(kind)
        names, generators = [each.name for each in group], [each.generator for each in group]
        sizes = [each.size for each in group]
        stack = torch.empty(len(group), *kind.shape, dtype=kind.dtype, device=kind.device)
        for matrix in stack:
            ascent = group.pop(0).ascent  # let go of as soon as it is copied
            matrix.copy_(ascent if isinstance(ascent, Tensor) else ascent.dense())
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes):
            own = largest(stack, dim=(1, 2))
            known = [mine if size is None else size for mine, size in zip(own, sizes, strict=True)]
        wanted = [
            number
            for number, size in enumerate(torch.stack(known).tolist())
            if self._is_wanted(names[number], size)
        ]
        if len(wanted) < len(names):
            stack = stack[wanted]
        if not wanted:
            return
        triplets = decomposed_stack(stack, kind.r, generators=[generators[n] for n in wanted])
        for number, *update in zip(wanted, *factors_of(triplets, self._lr), strict=True):
            B, R, A = update
            self._consume(names[number], (B, R, A))


def largest(values: Tensor, dim: tuple[int, ...] | None = None) -> Tensor:
    """Return the largest magnitude: zero, or not finite, as the values are."""
    return torch.linalg.vector_norm(values, torch.inf, dim=dim)


def _kind(r: int, ascent: Tensor | Product) -> _Kind:
    return _Kind(r, tuple(ascent.shape), ascent.dtype, ascent.device)


def _bytes(ascent: Tensor | Product) -> int:
    if isinstance(ascent, Tensor):
        return ascent.nbytes
    return ascent.left.nbytes + ascent.right.nbytes
