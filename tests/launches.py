"""Counting what a GPU would start, and how often a host would wait for one, on a CPU."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# What only makes another view of a tensor, or takes memory.
SILENT = {"view", "t", "transpose", "permute", "slice", "select", "expand", "as_strided", "alias"}
SILENT |= {"detach", "_unsafe_view", "unsqueeze", "squeeze", "diagonal", "unbind", "split"}
SILENT |= {"promote_types", "lift_fresh", "_local_scalar_dense"}
SILENT |= {"empty", "new_empty", "empty_like", "empty_strided"}
ASKING = ("item", "tolist", "cpu", "nonzero", "__bool__", "__float__", "__int__")


class Started(TorchDispatchMode):
    """Counts the operations that a GPU would start."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.names[name] += name not in SILENT
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def counted() -> Iterator[tuple[Counter[str], Counter[str]]]:
    """Yield what is started, and how often the host asks a tensor for its numbers."""
    asked: Counter[str] = Counter()

    def counting(name, plain):
        def ask(tensor, *arguments, **options):
            asked[name] += 1
            return plain(tensor, *arguments, **options)

        return ask

    with pytest.MonkeyPatch.context() as patch, Started() as started:
        for name in ASKING:
            patch.setattr(torch.Tensor, name, counting(name, getattr(torch.Tensor, name)))
        yield started.names, asked
