"""The frozen factors that chains draw."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rankwise.functional import sketch

from .matrices import matrix_with_spectrum, random_matrix

RANDOM_KINDS = ["gaussian", "orthonormal", "kaiming", "selector"]
SHAPE = (30, 20)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", RANDOM_KINDS)
@pytest.mark.parametrize(("side", "expected"), [("left", (30, 4)), ("right", (4, 20))])
def test_left_draws_B_and_right_draws_A(kind, side, expected):
    factor = sketch(SHAPE, 4, side=side, kind=kind, generator=seeded())
    assert factor.shape == expected
    assert factor.is_contiguous()
    assert factor.dtype is torch.float32


@pytest.mark.parametrize("kind", RANDOM_KINDS)
def test_a_seed_gives_one_sketch_and_the_global_random_state_is_left_alone(kind):
    before = torch.get_rng_state()
    first, same, other = (
        sketch(SHAPE, 4, side="left", kind=kind, generator=seeded(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", RANDOM_KINDS)
def test_a_generator_that_goes_on_gives_fresh_sketches(kind):
    generator = seeded()
    blocks = [sketch(SHAPE, 4, side="left", kind=kind, generator=generator) for _ in range(2)]
    assert not torch.equal(*blocks)


@pytest.mark.parametrize("kind", RANDOM_KINDS)
def test_the_default_dtype_rounds_the_same_draw(kind):
    single = sketch(SHAPE, 4, side="right", kind=kind, generator=seeded())
    torch.set_default_dtype(torch.float64)
    try:
        double = sketch(SHAPE, 4, side="right", kind=kind, generator=seeded())
    finally:
        torch.set_default_dtype(torch.float32)
    assert double.dtype is torch.float64
    assert torch.equal(double.float(), single)


@pytest.mark.parametrize("kind", ["orthonormal", "selector"])
@pytest.mark.parametrize("r", [1, 7, 20])
def test_columns_or_rows_are_orthonormal(kind, r):
    B = sketch(SHAPE, r, side="left", kind=kind, generator=seeded())
    A = sketch(SHAPE, r, side="right", kind=kind, generator=seeded())
    torch.testing.assert_close(B.T @ B, torch.eye(r), rtol=0, atol=1e-6)
    torch.testing.assert_close(A @ A.T, torch.eye(r), rtol=0, atol=1e-6)


def test_orthonormal_frames_favour_no_direction():
    generator, draws = seeded(), 2000
    frames = [
        sketch((5, 5), 2, side="left", kind="orthonormal", generator=generator)
        for _ in range(draws)
    ]
    # An entry has variance 1/5: five standard errors of the mean.
    mean = torch.stack(frames).mean(dim=0)
    torch.testing.assert_close(mean, torch.zeros(5, 2), rtol=0, atol=5 * (5 * draws) ** -0.5)


def test_selectors_pick_distinct_coordinates():
    B = sketch((9, 5), 9, side="left", kind="selector", generator=seeded())
    assert torch.equal(B.sum(dim=0), torch.ones(9))
    assert torch.equal(B.sum(dim=1), torch.ones(9))
    assert set(B.unique().tolist()) == {0.0, 1.0}


def test_gaussian_entries_have_unit_variance():
    B = sketch((4000, 5), 10, side="left", kind="gaussian", generator=seeded())
    torch.testing.assert_close(B.mean(), torch.tensor(0.0), rtol=0, atol=0.02)
    torch.testing.assert_close(B.var(), torch.tensor(1.0), rtol=0, atol=0.03)


@pytest.mark.parametrize("side", ["left", "right"])
def test_kaiming_fills_the_interval_of_the_sketched_side(side):
    factor = sketch((400, 400), 100, side=side, kind="kaiming", generator=seeded())
    bound = 400**-0.5
    assert bound * 0.999 < factor.abs().max() <= bound
    torch.testing.assert_close(factor.var(), torch.tensor(bound**2 / 3), rtol=0.02, atol=0)


def test_kaiming_has_the_bound_that_pytorch_gives_a_linear_layer():
    A = torch.empty(100, 400)
    nn.init.kaiming_uniform_(A, a=5**0.5, generator=seeded())
    ours = sketch((30, 400), 100, side="right", kind="kaiming", generator=seeded())
    torch.testing.assert_close(ours.abs().max(), A.abs().max(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_gradient_spans_the_leading_singular_directions(side):
    gradient = matrix_with_spectrum([5.0, 4.0, 0.1], *SHAPE, seed=1)
    factor = sketch(SHAPE, 2, side=side, kind="gradient", generator=seeded(), gradient=gradient)
    captured = factor.T @ gradient if side == "left" else gradient @ factor.T
    torch.testing.assert_close(captured.square().sum(), torch.tensor(41.0).double())
    assert factor.dtype is torch.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": "both"}, "side must be 'left' .* or 'right' .*, got 'both'"),
        ({"kind": "uniform"}, "kind must be one of gaussian, .*, gradient, got 'uniform'"),
        ({"r": 31}, r"r must be between 1 and 30 \(the rows of the weight\), got 31"),
        (
            {"r": 21, "side": "right"},
            r"r must be between 1 and 20 \(the columns of the weight\), got 21",
        ),
        ({"kind": "gradient"}, "gradient goes with kind='gradient' and no other"),
        ({"gradient": torch.ones(SHAPE)}, "no other, got kind='orthonormal'"),
        (
            {"kind": "gradient", "gradient": torch.ones(20, 30)},
            r"gradient must have shape \(30, 20\), got \(20, 30\)",
        ),
        ({"kind": "gradient", "gradient": torch.zeros(SHAPE)}, "gradient is zero everywhere"),
    ],
)
def test_a_wrong_argument_is_refused(change, message):
    arguments = {"r": 2, "side": "left", "kind": "orthonormal", "generator": seeded(), **change}
    with pytest.raises(ValueError, match=message):
        sketch(SHAPE, arguments.pop("r"), **arguments)


def test_the_global_random_state_is_no_source():
    with pytest.raises(TypeError, match=r"generator must be a torch.Generator, got NoneType"):
        sketch(SHAPE, 2, side="left", kind="gaussian", generator=None)  # type: ignore[arg-type]


def test_a_gradient_sketch_of_a_large_weight_follows_the_generator():
    gradient = random_matrix(300, 300, seed=2)
    first, same, other = (
        sketch(
            (300, 300), 4, side="left", kind="gradient", generator=seeded(seed), gradient=gradient
        )
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
