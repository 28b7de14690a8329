"""Moments in the coordinates of another sketch: exact where the sketch has seen the gradient."""

import pytest
import torch

from rankwise.functional.moments import turn_between, turned


def matrix(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def frame(n: int, r: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(matrix(n, r, seed=seed)).Q


def test_of_orthonormal_sketches_it_is_the_lift_to_the_weight_and_back():
    A, new_A = frame(6, 2, seed=1).T, frame(6, 2, seed=2).T
    m_B = matrix(5, 2)
    M = m_B @ A
    carried = turned(m_B, None, turn_between(A.T, new_A.T), is_squared=False)
    torch.testing.assert_close(carried, M @ new_A.T)


def test_a_gradient_within_the_old_sketch_is_seen_by_the_new_one_as_it_is():
    # Of any two sketches, orthonormal or not: the pseudoinverse takes their lengths out.
    B, new_B = matrix(6, 3, seed=1), 5 * matrix(6, 3, seed=2)
    G = B @ matrix(3, 4)
    carried = turned(B.T @ G, turn_between(B, new_B), None, is_squared=False)
    torch.testing.assert_close(carried, new_B.T @ G)


def test_a_core_is_turned_from_both_sides():
    B, new_B, A, new_A = (frame(6, 2, seed=seed) for seed in range(4))
    core = matrix(2, 2, seed=9)
    left, right = turn_between(B, new_B), turn_between(A, new_A)
    torch.testing.assert_close(
        turned(core, left, right, is_squared=False), new_B.T @ B @ core @ A.T @ new_A
    )


def test_the_same_sketch_changes_nothing():
    B, m = matrix(6, 3, seed=1), matrix(3, 4)
    turn = turn_between(B, B)
    torch.testing.assert_close(turned(m, turn, None, is_squared=False), m)
    torch.testing.assert_close(turned(m.square(), turn, None, is_squared=True), m.square())


def test_second_moments_are_those_of_what_is_not_correlated_and_never_negative():
    turn = turn_between(frame(6, 2, seed=1), frame(6, 2, seed=2))
    deviations = torch.rand(2, 1, dtype=torch.float64)
    draws = deviations * matrix(2, 400_000)
    found = turned(deviations.square(), turn, None, is_squared=True)
    expected = (turn @ draws).square().mean(dim=1, keepdim=True)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-3)
    assert (found >= 0).all()


def test_stacks_are_turned_each_by_itself():
    old, new, m = matrix(3, 6, 2, seed=1), matrix(3, 6, 2, seed=2), matrix(3, 2, 4)
    turn = turn_between(old, new)
    whole = turned(m, turn, None, is_squared=False)
    for each in range(3):
        one = turned(m[each], turn_between(old[each], new[each]), None, is_squared=False)
        torch.testing.assert_close(whole[each], one)


def test_moments_of_half_precision_are_turned_in_float32_and_stay_what_they_are():
    old, new = matrix(6, 2, seed=1), matrix(6, 2, seed=2)
    moment = matrix(2, 4).bfloat16()
    found = turned(moment, turn_between(old, new), None, is_squared=False)
    assert found.dtype == torch.bfloat16


def test_sketches_of_other_weights_are_refused():
    with pytest.raises(ValueError, match=r"equally many rows, got \(6, 2\) and \(5, 2\)"):
        turn_between(matrix(6, 2), matrix(5, 2))
