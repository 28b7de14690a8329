"""The null of an init: the magnitude and the spectrum of its start, in random directions.

An init that beats LoRA may do so because it begins at a large ΔW₀, whatever its directions are
(arXiv 2507.06558 finds the magnitude of the update to explain much of what inits gain). What it
gains from data shows against a start of the same singular values between orthonormal directions
that are drawn at random.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rankwise.core.seeds import derive_seed
from rankwise.methods.adapters.bridge import adapted_layers, factors, turn_factors


def randomise_directions(model: nn.Module, *, seed: int, adapter_name: str = "default") -> None:
    """Give each adapter layer of ``model`` random directions; its singular values stay.

    ΔW₀ = U S Vᵀ becomes U' S V'ᵀ with U' (out, r) and V' (in, r) uniform among matrices with
    orthonormal columns, drawn from (seed, layer).

    Raises:
        ModelError: No layer carries the adapter, or its change is no product of two factors.
    """
    for name, layer in adapted_layers(model, adapter_name).items():
        B, A = factors(layer, adapter_name)
        generator = torch.Generator().manual_seed(derive_seed(seed, name, "directions"))
        left, right = (
            _orthonormal(rows, min(B.shape[1], rows), like=B, generator=generator)
            for rows in (B.shape[0], A.shape[1])
        )
        turn_factors(layer, adapter_name, left, right)


def _orthonormal(rows: int, columns: int, *, like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a matrix with orthonormal columns uniformly (Mezzadri 2007, arXiv math-ph/0609050)."""
    Q, R = torch.linalg.qr(torch.randn(rows, columns, generator=generator, dtype=torch.float64))
    return (Q * R.diagonal().sign()).to(like.device, like.dtype)
