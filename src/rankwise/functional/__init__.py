"""The formulas of the papers as pure functions from tensors to tensors; they need torch alone."""

from rankwise.functional.boundary import boundary_layer_weights, boundary_loss, sign_agreement
from rankwise.functional.compress import compress
from rankwise.functional.core_gradient import corrected_core_gradient, equivalent_gradient
from rankwise.functional.delora import delora_delta
from rankwise.functional.sketch import sketch
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
