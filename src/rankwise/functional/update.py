"""LoRA-SB: the best rank-r approximation of the first full fine-tuning update.

Ponkshe et al. (2024), arXiv 2411.19557, the initialisation step and Theorem 6. We differ from the
released code in three ways: the factors keep at least float32 instead of being rounded to bfloat16,
the decomposition is exact or checked (see ``svd.py``), and the global random state is left alone.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from rankwise.functional.arguments import ArgumentError, check_gradient
from rankwise.functional.krylov import Triplets
from rankwise.functional.product import Product
from rankwise.functional.svd import truncated_svd


def update_factors(
    gradient: Tensor | Product,
    *,
    r: int,
    lr: float,
    mode: Literal["sign", "raw"] = "sign",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Factor the first optimizer step of full fine-tuning, ΔW ≈ B R A with rank r.

    ΔW = −lr · sign(G), the first step of Adam and its kin (``mode="sign"``, with sign(0) = 0), or
    ΔW = −lr · G, that of SGD (``mode="raw"``). Among all matrices of rank r, B R A is the nearest.

    Args:
        gradient: G (out, in), the gradient of the loss for the full weight; or dYᵀ and X as a
            :class:`Product`, which stays one in mode ``"raw"``. Signs need every number of it.
        r: Rank, at most the smaller side of G.
        lr: Learning rate of the step that is estimated.
        mode: Which optimizer's step.
        generator: Starts the randomised decomposition of a large G; see :func:`truncated_svd`.

    Returns:
        B (out, r) with orthonormal columns, R (r, r) diagonal, non-negative and descending, and A
        (r, in) with orthonormal rows, in the dtype of ``gradient`` and float32 at least.

    Raises:
        ValueError: ``gradient`` is zero or not a finite matrix; ``r``, ``lr`` or ``mode`` is wrong.

    Example:
        >>> B, R, A = update_factors(torch.tensor([[4.0, 1.0], [2.0, 0.5]]), r=1, lr=0.1)
        >>> B @ R @ A
        tensor([[-0.1000, -0.1000],
                [-0.1000, -0.1000]])
    """
    if not 0 < lr < math.inf:
        raise ArgumentError(f"lr must be positive and finite, got {lr!r}")
    triplets = truncated_svd(ascent_direction(gradient, mode), r, generator=generator)
    return factors_of(triplets, lr)


def ascent_direction(gradient: Tensor | Product, mode: Literal["sign", "raw"]) -> Tensor | Product:
    """Return what the first step goes against: sign(G), or G itself.

    Raises:
        ValueError: ``gradient`` is zero or not a finite matrix, or ``mode`` is wrong.
    """
    if mode not in ("sign", "raw"):
        raise ArgumentError(f"mode must be 'sign' or 'raw', got {mode!r}")
    check_gradient(gradient)
    return direction_of(gradient, mode)


def direction_of(gradient: Tensor | Product, mode: Literal["sign", "raw"]) -> Tensor | Product:
    """Return what :func:`ascent_direction` does, of a gradient that is checked elsewhere."""
    if mode == "raw":
        return gradient
    return (gradient if isinstance(gradient, Tensor) else gradient.dense()).sign()


def factors_of(triplets: Triplets, lr: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return B, R and A of the step −lr U S Vᵀ, or of several."""
    U, S, Vh = triplets
    return U, torch.diag_embed(lr * S), -Vh
