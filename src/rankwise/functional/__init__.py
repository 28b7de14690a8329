"""The formulas of the papers as pure functions from tensors to tensors; they need torch alone.

They are imported when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankwise.functional.boundary import boundary_layer_weights, boundary_loss, sign_agreement
    from rankwise.functional.compression import compress
    from rankwise.functional.core_gradient import corrected_core_gradient, equivalent_gradient
    from rankwise.functional.delora import delora_delta
    from rankwise.functional.sketches import sketch
    from rankwise.functional.tangent import information_loss, tangent_projection
    from rankwise.functional.update import update_factors

__all__ = [
    "boundary_layer_weights",
    "boundary_loss",
    "compress",
    "corrected_core_gradient",
    "delora_delta",
    "equivalent_gradient",
    "information_loss",
    "sign_agreement",
    "sketch",
    "tangent_projection",
    "update_factors",
]

# Where each function is; type checkers read the imports above instead.
_HOMES = {
    "boundary_layer_weights": "boundary",
    "boundary_loss": "boundary",
    "compress": "compression",
    "corrected_core_gradient": "core_gradient",
    "delora_delta": "delora",
    "equivalent_gradient": "core_gradient",
    "information_loss": "tangent",
    "sign_agreement": "boundary",
    "sketch": "sketches",
    "tangent_projection": "tangent",
    "update_factors": "update",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
