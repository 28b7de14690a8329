"""The share that a change can follow: against the closed forms, and where there is none."""

from __future__ import annotations

import pytest
import torch

from rankwise.diagnostics.captured import (
    captured_share,
    captured_share_by_factors,
    captured_share_by_jacobian,
)


@pytest.fixture
def matrices():
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {"G": draw(7, 5), "B": draw(7, 2), "A": draw(2, 5), "R": draw(2, 2)}


def product(parameters):
    return parameters["B"] @ parameters["A"]


def test_a_product_follows_its_tangent_space(matrices):
    G, B, A = (matrices[name] for name in "GBA")
    share = captured_share_by_jacobian(G, product, {"B": B, "A": A}, tolerance=1e-9)
    assert share == pytest.approx(float(captured_share(G, B, A)), abs=1e-9)


def test_a_fresh_lora_follows_the_rows_of_A(matrices):
    G, A = matrices["G"], matrices["A"]
    B = torch.zeros_like(matrices["B"])
    share = captured_share_by_jacobian(G, product, {"B": B, "A": A}, tolerance=1e-9)
    assert share == pytest.approx(float(captured_share(G, B, A)), abs=1e-9)


@pytest.mark.parametrize("trains", ["B", "A", "core"])
def test_what_is_frozen_does_not_move(matrices, trains):
    G, B, A, R = (matrices[name] for name in "GBAR")
    changes = {
        "B": (lambda p: p["B"] @ A, {"B": B}),
        "A": (lambda p: B @ p["A"], {"A": A}),
        "core": (lambda p: B @ p["R"] @ A, {"R": R}),
    }
    share = captured_share_by_jacobian(G, *changes[trains], tolerance=1e-9)
    assert share == pytest.approx(float(captured_share(G, B, A, trains=trains)), abs=1e-9)


def test_a_change_that_is_no_product_is_held_against_the_projector_on_its_jacobian(matrices):
    G, scale = matrices["G"], torch.linspace(0.5, 2, 5, dtype=torch.float64)
    weight = matrices["B"] @ matrices["A"]

    def turned(parameters):  # a magnitude a column, as in DoRA
        columns = weight + parameters["B"] @ matrices["A"]
        return scale * columns / columns.norm(dim=0)

    J = torch.func.jacrev(lambda B: turned({"B": B}))(matrices["B"]).reshape(35, 14)
    projected = J @ torch.linalg.lstsq(J, G.reshape(35, 1), driver="gelsd").solution
    expected = float(projected.square().sum() / G.square().sum())
    share = captured_share_by_jacobian(
        G, turned, {"B": matrices["B"]}, tolerance=1e-10, iterations=500
    )
    assert share == pytest.approx(expected, abs=1e-6)


def test_a_change_that_cannot_move_follows_nothing(matrices):
    zero = {"B": torch.zeros(7, 2), "A": torch.zeros(2, 5)}
    assert captured_share_by_jacobian(matrices["G"].float(), product, zero) == 0


def test_small_gradients_do_not_underflow(matrices):
    G, B, A = (matrices[name].float() for name in "GBA")
    share = captured_share_by_jacobian(G, product, {"B": B, "A": A})
    assert captured_share_by_jacobian(1e-30 * G, product, {"B": B, "A": A}) == pytest.approx(
        share, abs=1e-3
    )


def test_what_cannot_be_measured_is_refused(matrices):
    parameters = {"B": matrices["B"], "A": matrices["A"]}
    with pytest.raises(ValueError, match=r"shape of the change, \(7, 5\), got \(5, 7\)"):
        captured_share_by_jacobian(matrices["G"].T, product, parameters)
    with pytest.raises(ValueError, match="gradient is zero"):
        captured_share_by_jacobian(torch.zeros(7, 5), product, parameters)


def test_a_stack_has_the_share_of_all_its_matrices_by_their_weight(matrices):
    G, B, A = (matrices[name] for name in "GBA")
    stacks = [torch.stack([each, 2 * each, 0 * each]) for each in (G, B, A)]
    G2 = stacks[0].clone()
    G2[1] = G2[1].flip(0)
    first, second = captured_share(G, B, A), captured_share(G2[1], 2 * B, 2 * A)
    expected = (first * G.square().sum() + second * G2[1].square().sum()) / G2.square().sum()
    torch.testing.assert_close(captured_share(G2, *stacks[1:]), expected)


# A product, without its matrix --------------------------------------------------------------------


@pytest.mark.parametrize("trains", ["both", "B", "A", "core"])
def test_by_factors_it_is_the_closed_form(matrices, trains):
    G, B, A, R = (matrices[name] for name in "GBAR")
    factors = {
        "both": (lambda p: (p["B"], p["A"]), {"B": B, "A": A}),
        "B": (lambda p: (p["B"], A), {"B": B}),
        "A": (lambda p: (B, p["A"]), {"A": A}),
        "core": (lambda p: (B @ p["R"], A), {"R": R}),
    }
    share = captured_share_by_factors(G, *factors[trains], tolerance=1e-9)
    assert share == pytest.approx(float(captured_share(G, B, A, trains=trains)), abs=1e-9)


def test_by_factors_of_normalised_terms_it_is_that_by_the_dense_jacobian(matrices):
    def factors(p):
        return p["B"] / p["B"].norm(dim=0), p["s"] * p["A"] / p["A"].norm(dim=1, keepdim=True)

    def change(p):
        left, right = factors(p)
        return left @ right

    parameters = {"B": matrices["B"], "A": matrices["A"], "s": torch.tensor(2.0).double()}
    G = matrices["G"]
    shares = [
        by(G, function, parameters, tolerance=1e-10, iterations=300)
        for by, function in (
            (captured_share_by_factors, factors),
            (captured_share_by_jacobian, change),
        )
    ]
    assert shares[0] == pytest.approx(shares[1], abs=1e-8)


def test_by_factors_a_change_that_cannot_move_follows_nothing(matrices):
    zero = {"B": torch.zeros(7, 2), "A": torch.zeros(2, 5)}
    G = matrices["G"].float()
    assert captured_share_by_factors(G, lambda p: (p["B"], p["A"]), zero) == 0
    assert captured_share_by_factors(G, lambda _: (matrices["B"], matrices["A"]), zero) == 0


def test_by_factors_a_gradient_that_does_not_fit_or_is_zero_is_refused(matrices):
    factors = {"B": matrices["B"], "A": matrices["A"]}
    with pytest.raises(ValueError, match=r"shape of L R, \(7, 5\), got \(5, 7\)"):
        captured_share_by_factors(matrices["G"].T, lambda p: (p["B"], p["A"]), factors)
    with pytest.raises(ValueError, match="gradient is zero"):
        captured_share_by_factors(torch.zeros(7, 5), lambda p: (p["B"], p["A"]), factors)
