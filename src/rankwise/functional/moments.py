"""An optimizer's moments of a small factor, in the coordinates of the next sketch.

The gradient of a trained factor is that of the weight, G (out, in), seen through a frozen one: with
ΔW = s B A it is s Bᵀ G for A (r, in), s G Aᵀ for B (out, r), and with ΔW = s B R A it is s Bᵀ G Aᵀ
for R. Nothing is known of G beyond what the old sketch saw; what it saw, at its least norm, the new
sketch sees through a turn of r by r numbers:

    m' = T m Sᵀ        T = B'ᵀ B (Bᵀ B)⁺,    S = A' Aᵀ (A Aᵀ)⁺

For orthonormal sketches that is B'ᵀ M A'ᵀ with M = B m A. A second moment is a mean of squares; of
entries that are not correlated it turns with the squares of T and S, and stays positive.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rankwise.functional.arguments import ArgumentError, working_dtype


def turn_between(old: Tensor, new: Tensor) -> Tensor:
    """Return T = newᵀ old (oldᵀ old)⁺, (..., r', r), for sketches (..., n, r) and (..., n, r').

    Example:
        >>> old, new = torch.eye(3)[:, :2], torch.eye(3)[:, 1:]
        >>> turn_between(old, new)
        tensor([[0., 1.],
                [0., 0.]])
    """
    if old.shape[:-1] != new.shape[:-1]:
        raise ArgumentError(
            f"sketches of one weight have equally many rows, got {tuple(old.shape)} and "
            f"{tuple(new.shape)}"
        )
    dtype = working_dtype(old, new)
    return (torch.linalg.pinv(old.to(dtype)) @ new.to(device=old.device, dtype=dtype)).mT


def turned(
    moment: Tensor, left: Tensor | None, right: Tensor | None, *, is_squared: bool
) -> Tensor:
    """Return T m Sᵀ in the dtype of the moment, a turn of None being the identity.

    Args:
        moment: m (..., r, n), (..., n, r) or (..., r, r).
        left: T (..., r', r).
        right: S (..., r', r).
        is_squared: Whether it is a moment of squares, which takes the squares of T and S.

    Example:
        >>> moment, T = torch.tensor([[4.0], [1.0]]), torch.tensor([[0.5, -0.5], [0.5, 0.5]])
        >>> turned(moment, T, None, is_squared=True)
        tensor([[1.2500],
                [1.2500]])
    """
    dtype = working_dtype(moment)
    values = moment.to(dtype)
    for turn, is_left in ((left, True), (right, False)):
        if turn is not None:
            each = turn.to(device=moment.device, dtype=dtype)
            each = each.square() if is_squared else each
            values = each @ values if is_left else values @ each.mT
    return values.to(moment.dtype)
