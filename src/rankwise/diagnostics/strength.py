"""How large a change is beside the weight that it changes."""

from __future__ import annotations

import torch
from torch import Tensor


def relative_strength(change: Tensor, weight: Tensor) -> Tensor:
    """Return ‖ΔW‖_F / ‖W‖_F in float32 at least: infinite where only the weight is zero.

    Raises:
        ValueError: The two differ in shape.

    Example:
        >>> relative_strength(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 10.0]]))
        tensor(0.5000)
    """
    if change.shape != weight.shape:
        raise ValueError(
            f"change and weight must have the same shape, got {tuple(change.shape)} and "
            f"{tuple(weight.shape)}"
        )
    dtype = torch.promote_types(change.dtype, torch.float32)
    return torch.linalg.norm(change.to(dtype)) / torch.linalg.norm(weight.to(dtype))
