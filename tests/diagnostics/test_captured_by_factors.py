import pytest
import torch

from rankwise.diagnostics.captured import captured_share
from rankwise.functional.tangent import information_loss


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).double()


G, B, A = random(7, 5), random(7, 2), random(2, 5)
P_B, P_A = B @ torch.linalg.pinv(B), torch.linalg.pinv(A) @ A


@pytest.mark.parametrize(
    ("trains", "captured"),
    [
        ("both", P_B @ G + G @ P_A - P_B @ G @ P_A),
        ("B", G @ P_A),
        ("A", P_B @ G),
        ("core", P_B @ G @ P_A),
    ],
)
def test_it_is_the_squared_norm_of_the_projected_gradient(trains, captured):
    share = captured_share(G, B, A, trains=trains)
    torch.testing.assert_close(share, captured.square().sum() / G.square().sum())


def test_it_completes_the_information_loss():
    share = captured_share(G, B, A)
    torch.testing.assert_close(share, 1 - information_loss(G, B, A, relative=True))


def test_a_gradient_between_the_factors_is_captured_whole_by_the_core():
    inside = B @ random(2, 2) @ A
    assert captured_share(inside, B, A, trains="core").item() == pytest.approx(1)


def test_a_core_between_factors_that_miss_the_gradient_captures_nothing():
    gradient = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    missing = torch.tensor([[0.0, 1.0]])
    assert captured_share(gradient, missing.T, missing, trains="core") == 0


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="trains must be 'both', 'B', 'A' or 'core', got 'R'"):
        captured_share(G, B, A, trains="R")  # type: ignore[arg-type]
