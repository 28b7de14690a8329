"""Weights are computed in their own dtypes, whatever autocast the caller is under.

A forward pass may be rounded to sixteen bits; a fold, a start or an export is for good.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from rankwise.core.undoing import undone

_DEVICES = ("cpu", "cuda", "xpu", "mps")


@contextlib.contextmanager
def without_autocast() -> Iterator[None]:
    """Multiply in the dtypes of the factors meanwhile, on all devices; a decorator too.

    Not by ``torch.autocast``, whose count of contexts an interrupt may leave above zero: its casts
    of weights would then be kept for good.
    """
    on = [device for device in _DEVICES if torch.is_autocast_enabled(device)]

    def put_back() -> None:
        for device in on:
            torch.set_autocast_enabled(device, True)

    with undone(put_back):
        for device in on:
            torch.set_autocast_enabled(device, False)
        yield
