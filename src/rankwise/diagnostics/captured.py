"""How much of a gradient a change of weights can follow at first order: its captured share.

Near θ a change ΔW(θ) moves along J dθ, with J its Jacobian. The captured share of a gradient G is
‖P G‖² / ‖G‖², with P the projector on the image of J. For ΔW = B A and B R A there is a closed form
(ABM-LoRA 2025, arXiv 2511.19145, Fig. 1); of any other adapter J is applied and never formed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from rankwise.functional.tangent import information_loss, tangent_projection

Trained = Literal["both", "B", "A", "core"]
Parameters = dict[str, Tensor]


def captured_share(gradient: Tensor, B: Tensor, A: Tensor, *, trains: Trained = "both") -> Tensor:
    """Return the share of ‖G‖_F² that lies in the directions in which ΔW = B A or B R A can move.

    With P_B and P_A the projectors on the columns of B and the rows of A, the captured part
    is G − (I−P_B) G (I−P_A) where both factors train, G P_A where B does, P_B G where A does, and
    P_B G P_A where only a core between them does. One minus the first is ABM-LoRA's relative
    information loss (arXiv 2511.19145, Fig. 1); the last is in LoRA-SB's Theorem 3 (arXiv
    2411.19557).

    Args:
        gradient: G (out, in), not zero. In a stack of them a matrix may be zero.
        B: (out, r), or a stack of them.
        A: (r, in), or a stack of them.
        trains: What of the adapter trains.

    Returns:
        A scalar between 0 and 1.

    Raises:
        ValueError: ``trains`` is unknown, the shapes do not fit, or ``gradient`` is zero.

    Example:
        >>> captured_share(torch.eye(2), torch.zeros(2, 1), torch.tensor([[1.0, 0.0]]))
        tensor(0.5000)
    """
    if gradient.ndim == 3:
        return _share_of_stack(gradient, B, A, trains)
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


def _share_of_stack(gradient: Tensor, B: Tensor, A: Tensor, trains: Trained) -> Tensor:
    """Return the share of ‖G‖² over all matrices together."""
    squares = gradient.double().square().sum(dim=(-2, -1))
    shares = [
        captured_share(G, left, right, trains=trains).double() if square else square
        for G, left, right, square in zip(gradient, B, A, squares, strict=True)
    ]
    return ((torch.stack(shares) * squares).sum() / squares.sum()).to(gradient.dtype)


def _unit(gradient: Tensor, shape: tuple[int, ...], *, of: str) -> Tensor:
    """Return the gradient with its largest number at ±1: squares neither overflow nor vanish."""
    if tuple(shape) != tuple(gradient.shape):
        raise ValueError(
            f"gradient must have the shape of {of}, {tuple(shape)}, got {tuple(gradient.shape)}"
        )
    scale = gradient.abs().max()
    if not scale:
        raise ValueError("gradient is zero: there is nothing to follow")
    return gradient / scale


def captured_share_by_jacobian(
    gradient: Tensor,
    change: Callable[[Parameters], Tensor],
    parameters: Mapping[str, Tensor],
    *,
    iterations: int = 100,
    tolerance: float = 1e-3,
) -> float:
    """Return the share of ‖G‖_F² that first-order moves of ``parameters`` capture.

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
        >>> captured_share_by_jacobian(torch.eye(2), lambda p: p["B"] @ A, {"B": torch.zeros(2, 1)})
        0.5
    """
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    with torch.enable_grad():
        value = change(leaves)
    target = _unit(gradient, value.shape, of="the change").to(value.dtype)
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


def captured_share_by_factors(
    gradient: Tensor,
    factors: Callable[[Parameters], tuple[Tensor, Tensor]],
    parameters: Mapping[str, Tensor],
    *,
    iterations: int = 100,
    tolerance: float = 1e-3,
) -> float:
    """Return the same of a change that is a product L R of small factors, which is never formed.

    min_x ‖J x - G‖² by conjugate gradients on Jᵀ J x = Jᵀ G (Björck 1996, Algorithm 7.4.1, in its
    short form). J x = dL R + L dR stays a product, and Jᵀ takes one apart by products of small
    factors, so that G itself is multiplied twice and an iteration costs (out + in) k².

    Args:
        gradient: G (out, in), not zero.
        factors: Maps parameters to L (out, k) and R (k, in) by operations that autograd knows.
        parameters: θ; the moves are around it.
        iterations: At most so many.
        tolerance: Stop when the gradient of the normal equations is so small beside its first.

    Returns:
        A number between 0 and 1.

    Raises:
        ValueError: The shapes differ, or G is zero.

    Example:
        >>> A = torch.tensor([[1.0, 0.0]])
        >>> captured_share_by_factors(torch.eye(2), lambda p: (p["B"], A), {"B": torch.zeros(2, 1)})
        0.5
    """
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    with torch.enable_grad():
        L, R = factors(leaves)
        unit = _unit(gradient, (*L.shape[:-1], R.shape[-1]), of="L R")
        value = torch.cat([L.reshape(-1), R.reshape(-1)])
    if not value.requires_grad:
        return 0.0
    jacobian, target = _Jacobian(value, list(leaves.values())), unit.to(value.dtype)
    left, right = L.detach(), R.detach()

    def transposed(on_left: Tensor, on_right: Tensor) -> list[Tensor]:
        return jacobian.transposed(torch.cat([on_left.reshape(-1), on_right.reshape(-1)]))

    def normal(x: list[Tensor]) -> list[Tensor]:
        moved = jacobian.applied(x)
        dL, dR = moved[: L.numel()].view_as(L), moved[L.numel() :].view_as(R)
        # Of U = dL R + L dR: U Rᵀ and Lᵀ U.
        return transposed(
            dL @ (right @ right.mT) + left @ (dR @ right.mT),
            (left.mT @ dL) @ right + (left.mT @ left) @ dR,
        )

    slope = transposed(target @ right.mT, left.mT @ target)
    x = _conjugate_gradients(normal, slope, iterations=iterations, tolerance=tolerance)
    return float((_inner(x, slope) / target.square().sum()).clamp(0, 1))


def _conjugate_gradients(
    normal: Callable[[list[Tensor]], list[Tensor]],
    slope: list[Tensor],
    *,
    iterations: int,
    tolerance: float,
) -> list[Tensor]:
    """Solve Jᵀ J x = Jᵀ G from zero, where ``normal`` multiplies by Jᵀ J and Jᵀ G is ``slope``."""
    rest, direction, x = slope, slope, [torch.zeros_like(part) for part in slope]
    square = first = _square(rest)
    for _ in range(iterations):
        if not square > tolerance**2 * first:
            break
        pushed = normal(direction)
        length = square / _inner(direction, pushed)
        x = [part + length * along for part, along in zip(x, direction)]
        rest = [part - length * along for part, along in zip(rest, pushed)]
        before, square = square, _square(rest)
        direction = [part + square / before * old for part, old in zip(rest, direction)]
    return x


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


def _inner(parts: list[Tensor], others: list[Tensor]) -> Tensor:
    return torch.stack([(part * other).sum() for part, other in zip(parts, others)]).sum()


def _square(parts: list[Tensor]) -> Tensor:
    return torch.stack([part.square().sum() for part in parts]).sum()
