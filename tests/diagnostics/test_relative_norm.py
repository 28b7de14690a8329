import math

import pytest
import torch

from rankwise.diagnostics.relative_norm import norm_by_grams, product_norm, relative_norm


def test_it_is_the_ratio_of_the_norms():
    B, A, weight = torch.tensor([[3.0], [4.0]]), torch.ones(1, 1), torch.tensor([[0.0], [2.0]])
    assert relative_norm(B, A, weight) == 2.5


@pytest.mark.parametrize("shape", [(5, 2, 4), (3, 7, 2)])  # also more columns than rows
def test_it_equals_that_of_the_dense_change(shape):
    out_features, r, in_features = shape
    generator = torch.Generator().manual_seed(0)
    B = torch.randn(out_features, r, generator=generator, dtype=torch.float64)
    A = torch.randn(r, in_features, generator=generator, dtype=torch.float64)
    weight = torch.randn(out_features, in_features, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(relative_norm(B, A, weight), (B @ A).norm() / weight.norm())


def test_terms_that_cancel_exactly_are_no_change():
    B, A = torch.rand(4, 2), torch.rand(3, 5)
    B = torch.cat([B, torch.zeros(4, 1)], dim=1)
    A = torch.cat([torch.zeros(2, 5), A[:1]])
    assert relative_norm(B, A, torch.ones(4, 5)) == 0


def test_low_precision_is_widened_before_squares_overflow():
    large = torch.full((10, 10), 60000.0, dtype=torch.float16)
    B, A = large, torch.eye(10, dtype=torch.float16)
    torch.testing.assert_close(relative_norm(B, A, large), torch.tensor(1.0))


def test_factors_may_be_of_less_precision_than_the_weight():
    B, A = torch.ones(2, 1, dtype=torch.float16), torch.ones(1, 2, dtype=torch.float16)
    assert float(relative_norm(B, A, torch.ones(2, 2, dtype=torch.float64))) == pytest.approx(1)


def test_a_change_of_a_zero_weight_is_infinite():
    assert math.isinf(relative_norm(torch.ones(1, 1), torch.ones(1, 1), torch.zeros(1, 1)))


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"got B \(2, 1\), A \(1, 1\) and a weight of shape"):
        relative_norm(torch.ones(2, 1), torch.ones(1, 1), torch.ones(1, 2))


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_the_way_of_accelerators_gives_the_same_norm(scale):
    B, A = scale * torch.randn(50, 4), torch.randn(4, 60)
    torch.testing.assert_close(norm_by_grams(B, A).float(), product_norm(B, A))
    stack = torch.stack([A, 2 * A]), torch.stack([B, B])
    torch.testing.assert_close(norm_by_grams(*stack[::-1]).float(), product_norm(*stack[::-1]))
