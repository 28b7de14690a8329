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

    def counted(original):
        def call(matrices, *arguments, **options):
            seen.append(len(matrices))
            return original(matrices, *arguments, **options)

        return call

    for name in ("truncated_svds", "decomposed_stack"):
        monkeypatch.setattr(together, name, counted(getattr(together, name)))
    return seen


def group_of(made, blocks="wide"):
    return FactoredTogether(
        made.__setitem__, is_wanted=lambda _, size: size > 0, lr=0.1, blocks=blocks
    )


def factored(matrices, blocks="wide"):
    made = {}
    group = group_of(made, blocks)
    for number, matrix in enumerate(matrices):
        group.add(f"layer {number}", matrix, r=2, seed=number)
    group.finish()
    return made


def assert_same(found, expected):
    for factor, other in zip(found, expected, strict=True):
        torch.testing.assert_close(factor, other)


def test_on_a_cpu_each_is_factored_at_once(sizes):
    factored([signs(30, 40, seed) for seed in range(3)], "auto")
    assert sizes == [1, 1, 1]


def test_layers_of_one_shape_are_factored_together(sizes):
    matrices = [signs(*shape, 0) for shape in ((30, 40), (40, 30), (30, 40), (30, 40))]
    made = factored(matrices, "wide")
    assert sizes == [3, 1]
    for number, matrix in enumerate(matrices):
        assert_same(made[f"layer {number}"], update_factors(matrix, r=2, lr=0.1))


def test_no_more_than_sixteen_wait_for_each_other(sizes):
    factored([signs(30, 40, seed) for seed in range(18)], "wide")
    assert sizes == [16, 2]


def test_those_that_take_most_memory_go_first_when_it_is_full(sizes, monkeypatch):
    monkeypatch.setattr(together, "WAITING_BYTES", 4 * (2 * 1200 + 100))
    made = {}
    group = group_of(made)
    shapes = ((10, 10), (30, 40), (30, 40), (10, 11))
    for number, shape in enumerate(shapes):
        group.add(f"layer {number}", signs(*shape, number), r=2, seed=0)
    assert sizes == [2]
    assert set(made) == {"layer 1", "layer 2"}
    group.finish()
    assert sizes == [2, 1, 1]


def test_a_group_takes_no_more_than_its_bytes_to_be_factored(sizes, monkeypatch):
    monkeypatch.setattr(together, "FACTORED_BYTES", 3 * 4 * 1200)
    factored([signs(30, 40, seed) for seed in range(4)])
    assert sizes == [3, 1]


def test_a_product_waits_as_its_factors_where_they_are_smaller(monkeypatch):
    monkeypatch.setattr(together, "WAITING_BYTES", 4 * (5 * 70 + 1200))
    made = {}
    group, small = group_of(made), Product(signs(30, 5, 1), signs(5, 40, 2))
    wide = Product(signs(30, 50, 1), signs(50, 40, 2))
    group.add("small", small, r=2, seed=0)
    group.add("wide", wide, r=2, seed=1)
    assert not made
    group.finish()
    for name, product in (("small", small), ("wide", wide)):
        assert_same(made[name], update_factors(product.dense(), r=2, lr=0.1, mode="raw"))


def test_signs_wait_in_a_byte_each(monkeypatch):
    monkeypatch.setattr(together, "WAITING_BYTES", 2 * 1200)
    made, gradients = {}, [torch.randn(30, 40) for _ in range(2)]
    group = group_of(made)
    for number, gradient in enumerate(gradients):
        group.add_signs(str(number), gradient, r=2, seed=number)
    assert not made
    group.finish()
    for number, gradient in enumerate(gradients):
        assert_same(made[str(number)], update_factors(gradient, r=2, lr=0.1))


def test_what_is_zero_or_not_finite_is_told_and_left_out():
    asked, made, broken = {}, {}, torch.randn(30, 40)
    broken[3, 5] = torch.nan

    def is_wanted(name, size):
        asked[name] = size
        return 0 < size < torch.inf

    group = FactoredTogether(made.__setitem__, is_wanted=is_wanted, lr=0.1, blocks="wide")
    tiny = torch.full((30, 40), 1e-45)
    given = {"good": torch.ones(30, 40), "zero": torch.zeros(30, 40), "nan": broken, "tiny": tiny}
    for name, gradient in given.items():
        group.add_signs(name, gradient, r=2, seed=0)
        group.add((name, "raw"), gradient, r=2, seed=0)
        group.add_changed((name, "changed"), torch.ones(30, 40), gradient, r=2, seed=0)
    group.finish()
    for name in given:
        assert len({str(asked[each]) for each in (name, (name, "raw"), (name, "changed"))}) == 1
    assert asked["zero"] == 0
    assert asked["nan"] != asked["nan"]
    assert made.keys() == {
        each for name in ("good", "tiny") for each in (name, (name, "raw"), (name, "changed"))
    }


def test_one_group_alone_is_asked_for_numbers(monkeypatch):
    waits = []
    plain = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: waits.append(t.shape) or plain(t))
    factored([signs(30, 40, seed) for seed in range(8)])
    assert waits == [(8,)]
