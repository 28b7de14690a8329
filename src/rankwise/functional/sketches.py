"""RAC-LoRA: the frozen factor that each block of a chain draws.

Malinovsky et al. (2024), arXiv 2410.08305. With a left sketch B frozen and scaling s, a gradient
step on A moves W by −lr s² H ∇f with H = B Bᵀ; with a right sketch A by −lr s² ∇f H with H = Aᵀ A.
The paper's analysis (Eqs. 3 and 4) takes H to be an orthogonal projector: of the kinds below that
holds for ``orthonormal``, ``selector`` and ``gradient``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from rankwise.functional.arguments import ArgumentError, check_gradient, check_rank
from rankwise.functional.sketch_kinds import SKETCH_KINDS, Kind
from rankwise.functional.svd import truncated_svd

Side = Literal["left", "right"]
Draw = Callable[[int, int, torch.Generator], Tensor]


def sketch(
    shape: tuple[int, int],
    r: int,
    *,
    side: Side,
    kind: Kind,
    generator: torch.Generator,
    gradient: Tensor | None = None,
) -> Tensor:
    """Draw a frozen factor: B (out, r) for the left side of the weight, A (r, in) for the right.

    With d the sketched side (out for left, in for right), ``kind`` is one of:

    - ``gaussian``: independent N(0, 1), as in the paper and its code. H is no projector and
      E[H] = r I, so that a plain gradient step is on average d times that of ``orthonormal``. It
      is left unscaled so that learning rates found with that code carry over.
    - ``orthonormal``: a uniformly random r-dimensional subspace (Haar), E[H] = (r/d) I.
    - ``kaiming``: independent uniform on ±1/√d. For A it is PEFT's ``kaiming_uniform_(a=√5)``,
      whose fan is d; B mirrors it (its own fan r would make the bound √(d/r) times larger).
    - ``selector``: r distinct coordinates, unit vectors in random order, E[H] = (r/d) I.
    - ``gradient``: the r leading singular vectors of ``gradient``, the subspace that loses least of
      it; not random and not isotropic.

    Args:
        shape: (out, in) of the weight.
        r: Rank, at most d.
        side: Which factor is drawn.
        kind: Its distribution.
        generator: Source of randomness; the result lies on its device. The draw itself is made in
            float64, so that a seed gives the same sketch in every dtype.
        gradient: (out, in), for ``kind="gradient"`` and no other.

    Returns:
        The factor in torch's default dtype; for ``gradient``, in the dtype of the gradient and
        float32 at least, on its device.

    Raises:
        TypeError: ``generator`` is not a ``torch.Generator``.
        ValueError: Another argument is wrong, or ``gradient`` is zero, missing or not asked for.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> B = sketch((6, 4), 2, side="left", kind="orthonormal", generator=generator)
        >>> torch.allclose(B.T @ B, torch.eye(2), atol=1e-6)
        True
    """
    if side not in ("left", "right"):
        raise ArgumentError(f"side must be 'left' (draw B) or 'right' (draw A), got {side!r}")
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if (kind == "gradient") != (gradient is not None):
        raise ArgumentError(f"gradient goes with kind='gradient' and no other, got kind={kind!r}")
    if gradient is not None:
        U, Vh = _leading_directions(gradient, shape, r, generator=generator)
        return U if side == "left" else Vh
    if kind not in _DRAWS:
        raise ArgumentError(f"kind must be one of {', '.join([*_DRAWS, 'gradient'])}, got {kind!r}")
    size, dimension = (shape[0], "rows") if side == "left" else (shape[1], "columns")
    check_rank(r, size, f"the {dimension} of the weight")
    tall = _DRAWS[kind](size, r, generator).to(torch.get_default_dtype())
    return (tall if side == "left" else tall.T).contiguous()


def sketch_pair(
    shape: tuple[int, int],
    r: int,
    *,
    kind: Kind,
    generator: torch.Generator,
    gradient: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw B (out, r) and A (r, in) of one kind, for an adapter that takes a sketch on either side.

    With ``kind="gradient"`` both are of one decomposition; the others are drawn one after the
    other. Arguments and errors are those of :func:`sketch`.
    """
    if kind == "gradient" and gradient is not None:
        return _leading_directions(gradient, shape, r, generator=generator)
    B = sketch(shape, r, side="left", kind=kind, generator=generator, gradient=gradient)
    return B, sketch(shape, r, side="right", kind=kind, generator=generator)


def _leading_directions(
    gradient: Tensor, shape: tuple[int, int], r: int, *, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    if tuple(gradient.shape) != tuple(shape):
        raise ArgumentError(f"gradient must have shape {tuple(shape)}, got {tuple(gradient.shape)}")
    check_gradient(gradient)
    U, _, Vh = truncated_svd(gradient, r, generator=generator)
    return U, Vh


def _gaussian(size: int, r: int, generator: torch.Generator) -> Tensor:
    device = generator.device
    return torch.randn(size, r, generator=generator, device=device, dtype=torch.float64)


def random_frame(size: int, r: int, generator: torch.Generator) -> Tensor:
    """Draw r orthonormal columns (size, r), float64, uniformly."""
    Q, triangle = torch.linalg.qr(_gaussian(size, r, generator))
    # QR alone prefers some signs; with a positive diagonal the frame is Haar (Mezzadri 2007,
    # arXiv math-ph/0609050).
    return Q * triangle.diagonal().sign()


def _kaiming(size: int, r: int, generator: torch.Generator) -> Tensor:
    device = generator.device
    uniform = torch.rand(size, r, generator=generator, device=device, dtype=torch.float64)
    return (2 * uniform - 1) / math.sqrt(size)


def _selector(size: int, r: int, generator: torch.Generator) -> Tensor:
    chosen = torch.randperm(size, generator=generator, device=generator.device)[:r]
    factor = torch.zeros(size, r, dtype=torch.float64, device=generator.device)
    return factor.scatter_(0, chosen.unsqueeze(0), 1.0)


_DRAWS: dict[str, Draw] = {
    "gaussian": _gaussian,
    "orthonormal": random_frame,
    "kaiming": _kaiming,
    "selector": _selector,
}


def add_sketch(kind: str, draw: Draw) -> None:
    """Add a kind of sketch, which chains and settings take from then on by its name.

    Args:
        kind: Its name.
        draw: Takes a side's size d, the rank r and a generator, and returns (d, r), float64, on the
            generator's device. It is the factor B of a left sketch, and that of a right one
            transposed.

    Raises:
        ArgumentError: The name is taken.
    """
    if kind in SKETCH_KINDS:
        raise ArgumentError(f"there is a sketch {kind!r} already: name yours otherwise")
    _DRAWS[kind] = draw
    SKETCH_KINDS.append(kind)
