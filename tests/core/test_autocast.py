"""Autocast is off meanwhile, and on again whatever happens."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.autocast import without_autocast

LEFT, RIGHT = torch.full((2, 2), 1.001), torch.eye(2)


@without_autocast()
def product():
    return LEFT @ RIGHT


@pytest.fixture
def under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert (LEFT @ RIGHT).dtype == torch.bfloat16
        yield
        assert (LEFT @ RIGHT).dtype == torch.bfloat16


@pytest.mark.usefixtures("under_autocast")
def test_products_have_the_dtype_of_their_factors_each_time():
    assert torch.equal(product(), LEFT)
    assert torch.equal(product(), LEFT)


@pytest.mark.usefixtures("under_autocast")
def test_an_exception_leaves_it_on():
    with pytest.raises(KeyboardInterrupt), without_autocast():
        raise KeyboardInterrupt


def test_where_it_was_off_it_stays_off():
    with without_autocast():
        assert torch.equal(product(), LEFT)
    assert torch.equal(LEFT @ RIGHT, LEFT)
