"""The null of an init: the magnitude and the spectrum of its start, in random directions.

An init that beats LoRA may do so because it begins at a large ΔW₀, whatever its directions are
(arXiv 2507.06558 finds the magnitude of the update to explain much of what inits gain). What it
gains from data shows against a start of the same singular values between orthonormal directions
that are drawn at random.
"""

from __future__ import annotations

import torch
from torch import nn

from rankwise.core.seeds import derive_seed
from rankwise.functional.sketches import random_frame
from rankwise.methods.adapters.bridge import adapted_layers, factors, turn_factors


def randomise_directions(model: nn.Module, *, seed: int, adapter_name: str = "default") -> None:
    """Give each adapter layer of ``model`` random directions; its singular values stay.

    ΔW₀ = U S Vᵀ becomes U' S V'ᵀ with U' (out, r) and V' (in, r) uniform among matrices with
    orthonormal columns, drawn from (seed, layer). What starts at zero stays there, along such U'
    and V'.

    Raises:
        ModelError: No layer carries the adapter, its change is no product of two factors, or it is
            one of DeLoRA that is not zero.
    """
    for name, layer in adapted_layers(model, adapter_name).items():
        B, A = factors(layer, adapter_name)
        generator = torch.Generator().manual_seed(derive_seed(seed, name, "directions"))
        left, right = (
            random_frame(rows, min(B.shape[1], rows), generator).to(B.device, B.dtype)
            for rows in (B.shape[0], A.shape[1])
        )
        turn_factors(layer, adapter_name, left, right)
