"""Layers of one shape wait for each other where that pays, within a bound of memory."""

from __future__ import annotations

import pytest
import torch

from rankwise.functional.product import Product
from rankwise.functional.update import update_factors
from rankwise.methods.inits import together
from rankwise.methods.inits.together import FactoredTogether


def signs(m, n, seed):
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed)).sign()


@pytest.fixture
def sizes(monkeypatch):
    """How many matrices were decomposed together, each time."""
    seen = []
    original = together.truncated_svds

    def counted(matrices, *arguments, **options):
        seen.append(len(matrices))
        return original(matrices, *arguments, **options)

    monkeypatch.setattr(together, "truncated_svds", counted)
    return seen


def factored(matrices, blocks):
    made = {}
    group = FactoredTogether(made.__setitem__, lr=0.1, blocks=blocks)
    for number, matrix in enumerate(matrices):
        group.add(f"layer {number}", matrix, r=2, seed=number)
    group.finish()
    return made


def test_on_a_cpu_each_is_factored_at_once(sizes):
    factored([signs(30, 40, seed) for seed in range(3)], "auto")
    assert sizes == [1, 1, 1]


def test_layers_of_one_shape_are_factored_together(sizes):
    matrices = [signs(*shape, 0) for shape in ((30, 40), (40, 30), (30, 40), (30, 40))]
    made = factored(matrices, "wide")
    assert sizes == [3, 1]
    for number, matrix in enumerate(matrices):
        expected = update_factors(matrix, r=2, lr=0.1)
        for factor, other in zip(made[f"layer {number}"], expected, strict=True):
            torch.testing.assert_close(factor, other)


def test_no_more_than_eight_wait_for_each_other(sizes):
    factored([signs(30, 40, seed) for seed in range(10)], "wide")
    assert sizes == [8, 2]


def test_those_that_take_most_memory_go_first_when_it_is_full(sizes, monkeypatch):
    monkeypatch.setattr(together, "WAITING_BYTES", 4 * (2 * 1200 + 100))
    made, group = {}, None
    group = FactoredTogether(made.__setitem__, lr=0.1, blocks="wide")
    shapes = ((10, 10), (30, 40), (30, 40), (10, 11))
    for number, shape in enumerate(shapes):
        group.add(f"layer {number}", signs(*shape, number), r=2, seed=0)
    assert sizes == [2]
    assert set(made) == {"layer 1", "layer 2"}
    group.finish()
    assert sizes == [2, 1, 1]


def test_a_product_is_formed_to_wait():
    product = Product(signs(30, 5, 1), signs(5, 40, 2))
    made = factored([product], "wide")
    expected = update_factors(product.dense(), r=2, lr=0.1, mode="raw")
    for factor, other in zip(made["layer 0"], expected, strict=True):
        torch.testing.assert_close(factor, other)
