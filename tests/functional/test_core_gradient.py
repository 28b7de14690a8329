"""The core's gradient: what is computed by hand, factors that are short of rank, and refusals.

The theorems themselves are in ``test_theory_sb.py``.
"""

import pytest
import torch

from rankwise.functional import corrected_core_gradient, equivalent_gradient

from .matrices import projector, random_matrix


def test_the_correction_is_the_inverse_of_the_gram_matrices():
    B, A, g_R = (random_matrix(*shape, seed=1) for shape in ((7, 3), (3, 6), (3, 3)))
    left, right = torch.linalg.inv(B.T @ B), torch.linalg.inv(A @ A.T)
    corrected = corrected_core_gradient(g_R, B, A, scaling=5.0)
    torch.testing.assert_close(corrected, left @ g_R @ right / 25)


def test_factors_short_of_rank_are_projected_on_what_they_span():
    B, A, g = (random_matrix(*shape, seed=2) for shape in ((7, 3), (3, 6), (7, 6)))
    B[:, 2] = B[:, 0] - B[:, 1]
    g_R = 2.0 * B.T @ g @ A.T
    moved = equivalent_gradient(corrected_core_gradient(g_R, B, A, scaling=2.0), B, A, scaling=2.0)
    torch.testing.assert_close(moved, projector(B) @ g @ projector(A.T))


@pytest.mark.parametrize("function", [corrected_core_gradient, equivalent_gradient])
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 3), (7, 3), (3, 6)), r"core_gradient must have shape \(3, 3\), .* got \(2, 3\)"),
        (((3, 3), (7, 3), (2, 6)), r"B must be \(out, r\) and A \(r, in\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(function, shapes, message):
    with pytest.raises(ValueError, match=message):
        function(*(torch.ones(shape) for shape in shapes))


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="core_gradient holds NaN or infinite values"):
        equivalent_gradient(torch.full((1, 1), torch.nan), torch.ones(2, 1), torch.ones(1, 2))


def test_no_step_moves_the_weight_where_the_scaling_is_zero():
    with pytest.raises(ValueError, match="scaling must not be 0"):
        corrected_core_gradient(torch.ones(1, 1), torch.ones(2, 1), torch.ones(1, 2), scaling=0)
