"""The first updates of a stack of experts, each factored by itself and written together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rankwise.methods.inits.together import Update

Place = tuple[str, int | None]
"""A layer, and the number of the expert if it is a stack."""


def label_of(place: Place) -> str:
    """Return how a place is called where it is named, or where a seed is made of its name."""
    name, expert = place
    return name if expert is None else f"{name}[{expert}]"


class StackedUpdates:
    """Hands the update of each layer to ``write``, that of a stack once all its experts are there.

    An expert without a gradient has zeros.
    """

    def __init__(self, write: Callable[[str, Update], None]) -> None:
        self._write = write
        self._stacks: dict[str, Update] = {}
        self._missing: dict[str, int] = {}

    def expect(self, name: str, gradient: Tensor, r: int) -> list[int]:
        """Make room for the experts of a stack; return those that have a gradient (out, in)."""
        self._stacks[name] = room(gradient.shape, r, gradient.dtype, gradient.device)
        found = gradient.any(dim=-1).any(dim=-1).nonzero().flatten().tolist()
        self._missing[name] = len(found)
        return found

    def add(self, place: Place, update: Update) -> None:
        """Take in one update."""
        name, expert = place
        if expert is None:
            self._write(name, update)
            return
        for stacked, factor in zip(self._stacks[name], update, strict=True):
            stacked[expert] = factor
        self._missing[name] -= 1
        if not self._missing[name]:
            self._write(name, self._stacks.pop(name))


def room(shape: tuple[int, ...], r: int, dtype: torch.dtype, device: torch.device) -> Update:
    """Return the update of a weight (..., out, in) before it is filled."""
    *stack, out_features, in_features = shape
    options = {"dtype": dtype, "device": device}
    shapes = ((out_features, r), (r, r), (r, in_features))
    B, R, A = (torch.zeros(*stack, *each, **options) for each in shapes)
    return B, R, A
