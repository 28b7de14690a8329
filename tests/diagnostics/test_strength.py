import math

import pytest
import torch

from rankwise.diagnostics.strength import relative_strength


def test_it_is_the_ratio_of_the_norms():
    change, weight = torch.tensor([[3.0], [4.0]]), torch.tensor([[0.0], [2.0]])
    assert relative_strength(change, weight) == 2.5


def test_low_precision_is_widened_before_squares_overflow():
    large = torch.full((10, 10), 60000.0, dtype=torch.float16)
    assert relative_strength(large, large) == 1


def test_a_change_of_a_zero_weight_is_infinite():
    assert math.isinf(relative_strength(torch.ones(1, 1), torch.zeros(1, 1)))


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"must have the same shape, got \(2, 1\) and \(1, 2\)"):
        relative_strength(torch.ones(2, 1), torch.ones(1, 2))
