"""How much of a gradient an adapter can follow at first order."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rankwise.functional.tangent import information_loss, tangent_projection

Trained = Literal["both", "B", "A", "core"]


def captured_share(gradient: Tensor, B: Tensor, A: Tensor, *, trains: Trained = "both") -> Tensor:
    """Return the share of ‖G‖_F² that lies in the directions in which ΔW = B A or B R A can move.

    With P_B and P_A the projectors on the columns of B and the rows of A, the captured part
    is G − (I−P_B) G (I−P_A) where both factors train, G P_A where B does, P_B G where A does, and
    P_B G P_A where only a core between them does. One minus the first is ABM-LoRA's relative
    information loss (arXiv 2511.19145, Fig. 1); the last is in LoRA-SB's Theorem 3 (arXiv
    2411.19557).

    Args:
        gradient: G (out, in), not zero.
        B: (out, r).
        A: (r, in).
        trains: What of the adapter trains.

    Returns:
        A scalar between 0 and 1.

    Raises:
        ValueError: ``trains`` is unknown, the shapes do not fit, or ``gradient`` is zero.

    Example:
        >>> captured_share(torch.eye(2), torch.zeros(2, 1), torch.tensor([[1.0, 0.0]]))
        tensor(0.5000)
    """
    match trains:
        case "both":
            left, right = B, A
        case "B":
            left, right = torch.zeros_like(B), A
        case "A":
            left, right = B, torch.zeros_like(A)
        case "core":
            beside = tangent_projection(gradient, torch.zeros_like(B), A)
            share = captured_share(gradient, B, A, trains="B")
            return share * captured_share(beside, B, A, trains="A") if share else share
        case _:
            raise ValueError(f"trains must be 'both', 'B', 'A' or 'core', got {trains!r}")
    return 1 - information_loss(gradient, left, right, relative=True)
