"""What goes between server and clients: the state, its bytes, and what is refused.

A client keeps what it has received. The server therefore stamps each tensor of the state with the
round that made it, and sends a client what is newer than the last round it took part in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass
class State:
    """What a client must know, besides the base and the seeds, to begin the next round.

    Attributes:
        tensors: By name.
        stamps: The round before which each was made; a start that was sent has the stamp 1.
    """

    tensors: Tensors = field(default_factory=dict)
    stamps: dict[str, int] = field(default_factory=dict)

    def put(self, tensors: Mapping[str, Tensor], stamp: int) -> None:
        """Add ``tensors``, or put them in the place of those of the same name."""
        self.tensors.update(tensors)
        self.stamps.update(dict.fromkeys(tensors, stamp))

    def newer_than(self, stamp: int) -> Tensors:
        """Return what a client lacks that knows everything up to ``stamp``; 0 knows nothing."""
        return {name: each for name, each in self.tensors.items() if self.stamps[name] > stamp}


def count_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the bytes of the numbers, without what a message puts around them."""
    return sum(each.numel() * each.element_size() for each in tensors.values())


def fault_of(upload: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> str | None:
    """Say why an upload cannot be averaged with tensors like ``like``; None if it can."""
    if upload.keys() != like.keys():
        strange = sorted(upload.keys() ^ like.keys())
        return f"its tensors are not those of this method ({', '.join(strange[:3])})"
    for name, each in upload.items():
        wanted = like[name]
        if each.shape != wanted.shape or each.dtype != wanted.dtype:
            return (
                f"{name} must be {wanted.dtype} of shape {tuple(wanted.shape)}, "
                f"got {each.dtype} of shape {tuple(each.shape)}"
            )
        if not bool(torch.isfinite(each).all()):
            return f"{name} is not finite"
    return None
