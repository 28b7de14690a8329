"""How much of a gradient a change can follow, for any change that depends on parameters.

Near θ the change ΔW(θ) moves along J dθ, with J its Jacobian. The share of a gradient G that such
moves can follow is ‖P G‖² / ‖G‖², with P the projector on the image of J. For ΔW = B A this is
:func:`rankwise.diagnostics.tangent.captured_share` (ABM-LoRA 2025, arXiv 2511.19145, Fig. 1); here
J is never formed, but only applied, so that any adapter can be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Parameters = dict[str, Tensor]


def followed_share(
    gradient: Tensor,
    change: Callable[[Parameters], Tensor],
    parameters: Mapping[str, Tensor],
    *,
    iterations: int = 100,
    tolerance: float = 1e-3,
) -> float:
    """Return the share of ‖G‖_F² that first-order moves of ``parameters`` can follow.

    min_x ‖J x - G‖² is solved by conjugate gradients on its normal equations (CGLS, Björck 1996,
    Algorithm 7.4.1): one product with J and one with Jᵀ an iteration. The share grows from one
    iteration to the next, so stopping early understates it.

    Args:
        gradient: G (out, in), not zero.
        change: Maps parameters to ΔW (out, in) by operations that autograd knows.
        parameters: θ; the moves are around it.
        iterations: At most so many.
        tolerance: Stop when ‖Jᵀ r‖, of the rest r, is so small beside ‖Jᵀ G‖.

    Returns:
        A number between 0 and 1.

    Raises:
        ValueError: The shapes differ, or G is zero.

    Example:
        >>> A = torch.tensor([[1.0, 0.0]])
        >>> followed_share(torch.eye(2), lambda p: p["B"] @ A, {"B": torch.zeros(2, 1)})
        0.5
    """
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    with torch.enable_grad():
        value = change(leaves)
    if value.shape != gradient.shape:
        raise ValueError(
            f"gradient must have the shape of the change, {tuple(value.shape)}, got "
            f"{tuple(gradient.shape)}"
        )
    scale = gradient.abs().max()
    if not scale:
        raise ValueError("gradient is zero: there is nothing to follow")
    target = (gradient / scale).to(value.dtype)
    if not value.requires_grad:
        return 0.0
    jacobian = _Jacobian(value, list(leaves.values()))
    rest, slope = target, jacobian.transposed(target)
    direction, first = slope, _square(slope)
    square = first
    for _ in range(iterations):
        if not square > tolerance**2 * first:
            break
        moved = jacobian.applied(direction)
        rest = rest - square / moved.square().sum() * moved
        slope = jacobian.transposed(rest)
        before, square = square, _square(slope)
        direction = [part + square / before * old for part, old in zip(slope, direction)]
    return float((1 - rest.square().sum() / target.square().sum()).clamp(0, 1))


class _Jacobian:
    """J of a value that was computed from leaves, by products alone."""

    def __init__(self, value: Tensor, leaves: list[Tensor]) -> None:
        self._value = value
        self._leaves = leaves
        # Jᵀ u is linear in u, so the derivative of it along u gives J. Forward-mode derivatives
        # would do too, but not every operation of an adapter has one.
        self._u = torch.zeros_like(value).requires_grad_()
        self._pulled = self._pull(self._u, create_graph=True)

    def transposed(self, u: Tensor) -> list[Tensor]:
        """Return Jᵀ u, by leaf."""
        return self._pull(u, create_graph=False)

    def applied(self, direction: list[Tensor]) -> Tensor:
        """Return J applied to a direction, given by leaf."""
        pairs = [(p, d) for p, d in zip(self._pulled, direction) if p.requires_grad]
        if not pairs:
            return torch.zeros_like(self._u)
        pulled, along = zip(*pairs)
        (moved,) = torch.autograd.grad(
            pulled, self._u, along, retain_graph=True, materialize_grads=True
        )
        return moved

    def _pull(self, u: Tensor, *, create_graph: bool) -> list[Tensor]:
        return list(
            torch.autograd.grad(
                self._value,
                self._leaves,
                u,
                retain_graph=True,
                create_graph=create_graph,
                materialize_grads=True,
            )
        )


def _square(parts: list[Tensor]) -> Tensor:
    return torch.stack([part.square().sum() for part in parts]).sum()
