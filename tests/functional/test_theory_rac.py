"""What the theory of RAC-LoRA says, in float64: sketches, rates, and where other chains stop.

"Theory mode" is an orthonormal sketch and one plain gradient step a block, W⁺ = W − γ H ∇f(W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from rankwise.functional import sketch

from .matrices import matrix_with_spectrum, projector, random_matrix


@pytest.fixture(autouse=True, scope="module")
def _double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_projector(size: int, r: int, generator: torch.Generator, kind: str = "orthonormal"):
    """H = B Bᵀ of a left sketch."""
    B = sketch((size, size), r, side="left", kind=kind, generator=generator)  # type: ignore[arg-type]
    return B @ B.T


# Sketches --------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    size=st.integers(1, 9),
    kind=st.sampled_from(["orthonormal", "selector"]),
    seed=st.integers(0, 10**6),
    data=st.data(),
)
def test_the_step_matrix_is_an_orthogonal_projector_of_rank_r(size, kind, seed, data):
    r = data.draw(st.integers(1, size))
    H = draw_projector(size, r, seeded(seed), kind)
    torch.testing.assert_close(H, H.T)
    torch.testing.assert_close(H @ H, H)
    torch.testing.assert_close(H.trace(), torch.tensor(float(r)))


@pytest.mark.parametrize("kind", ["orthonormal", "selector"])
def test_on_average_it_is_the_share_r_over_m_of_the_identity(kind):
    generator, draws = seeded(0), 4000
    mean = sum(draw_projector(6, 2, generator, kind) for _ in range(draws)) / draws
    # An entry of H lies in [-1, 1] with standard deviation below 0.5: five standard errors.
    torch.testing.assert_close(mean, 2 / 6 * torch.eye(6), rtol=0, atol=2.5 / draws**0.5)


def test_a_gaussian_sketch_is_m_times_longer_and_no_projector():
    generator, draws = seeded(1), 4000
    steps = [draw_projector(6, 2, generator, "gaussian") for _ in range(draws)]
    mean = torch.stack(steps).mean(dim=0)
    torch.testing.assert_close(mean, 2 * torch.eye(6), rtol=0, atol=0.2)
    assert (steps[0] @ steps[0] - steps[0]).norm() > 1


# One block -------------------------------------------------------------------------------------


class Regression:
    """A linear layer and one block of a chain on it, trained by autograd."""

    def __init__(self) -> None:
        self.layer = nn.Linear(5, 7)
        self.layer.weight.data = random_matrix(7, 5, seed=1)
        self.x, self.y = random_matrix(30, 5, seed=2), random_matrix(30, 7, seed=3)

    def gradient(self) -> Tensor:
        loss = mse_loss(self.layer(self.x), self.y)
        return torch.autograd.grad(loss, self.layer.weight)[0]

    def block(self, frozen: Tensor, *, side: str, lr: float, scaling: float) -> Tensor:
        """Take one plain gradient step on the factor beside ``frozen``; return the new weight."""
        left = side == "left"
        trained = torch.zeros(frozen.shape[1], 5) if left else torch.zeros(7, frozen.shape[0])
        trained.requires_grad_()
        B, A = (frozen, trained) if left else (trained, frozen)
        output = self.layer(self.x) + scaling * self.x @ A.T @ B.T
        mse_loss(output, self.y).backward()
        assert trained.grad is not None
        stepped = trained.detach() - lr * trained.grad
        change = frozen @ stepped if left else stepped @ frozen
        return self.layer.weight.detach() + scaling * change


@pytest.mark.parametrize("scaling", [1.0, 0.25, 4.0])
@pytest.mark.parametrize("kind", ["orthonormal", "selector"])
def test_one_step_on_the_factor_is_the_projected_step_on_the_weight(kind, scaling):
    task, gamma = Regression(), 0.1
    W, G, lr = task.layer.weight.detach(), task.gradient(), gamma / scaling**2
    for side in ("left", "right"):
        frozen = sketch((7, 5), 3, side=side, kind=kind, generator=seeded(4))
        moved = task.block(frozen, side=side, lr=lr, scaling=scaling)
        direction = projector(frozen) @ G if side == "left" else G @ projector(frozen.T)
        torch.testing.assert_close(moved, W - gamma * direction)


def test_a_full_sketch_is_gradient_descent():
    task = Regression()
    frozen = sketch((7, 5), 7, side="left", kind="orthonormal", generator=seeded(5))
    moved = task.block(frozen, side="left", lr=0.1, scaling=1.0)
    torch.testing.assert_close(moved, task.layer.weight.detach() - 0.1 * task.gradient())


def test_with_a_gaussian_sketch_the_step_is_not_the_projected_one():
    task = Regression()
    W, G = task.layer.weight.detach(), task.gradient()
    B = sketch((7, 5), 3, side="left", kind="gaussian", generator=seeded(6))
    moved = task.block(B, side="left", lr=0.1, scaling=2.0)
    torch.testing.assert_close(moved, W - 0.1 * 2.0**2 * B @ B.T @ G)
    assert (moved - (W - 0.1 * projector(B) @ G)).norm() > 0.1


# Rates -----------------------------------------------------------------------------------------

M, N, R = 6, 4, 2
RATE = R / M  # λ = λ_min(E[H])
BLOCKS, RUNS = 40, 20


class Quadratic:
    """f(W) = ½ Σ d_ij (W − W*)²_ij with d between μ = 1 and L = 10; f* = 0."""

    mu, L = 1.0, 10.0
    curvature = torch.linspace(1, 10, M * N, dtype=torch.float64).reshape(M, N)
    optimum = random_matrix(M, N, seed=7)

    def value(self, W: Tensor) -> Tensor:
        return (self.curvature * (W - self.optimum).square()).sum() / 2

    def gradient(self, W: Tensor) -> Tensor:
        return self.curvature * (W - self.optimum)


class Valley:
    """f(W) = Σ w²/(1 + w²), smooth with L = 2, not convex; f* = 0."""

    L = 2.0

    def value(self, W: Tensor) -> Tensor:
        return (W.square() / (1 + W.square())).sum()

    def gradient(self, W: Tensor) -> Tensor:
        return 2 * W / (1 + W.square()).square()


Gradient = Callable[[Tensor], Tensor]


def chain(W: Tensor, gradient: Gradient, *, gamma: float, blocks: int, seed: int) -> list[Tensor]:
    """The iterates of RAC-LoRA in theory mode, the first included."""
    generator, iterates = seeded(seed), [W]
    for _ in range(blocks):
        W = W - gamma * draw_projector(M, R, generator) @ gradient(W)
        iterates.append(W)
    return iterates


@pytest.mark.parametrize("problem", [Quadratic(), Valley()])
def test_every_block_lowers_a_smooth_function_by_the_descent_lemma(problem):
    gamma, generator = 1 / problem.L, seeded(8)
    for seed in range(50):
        W = 2 * random_matrix(M, N, seed=seed)
        step = draw_projector(M, R, generator) @ problem.gradient(W)
        promised = problem.value(W) - gamma / 2 * step.square().sum()
        assert problem.value(W - gamma * step) <= promised + 1e-12


def test_linear_rate_under_the_pl_condition():
    problem, start = Quadratic(), random_matrix(M, N, seed=9)
    gamma = 1 / problem.L
    runs = [
        chain(start, problem.gradient, gamma=gamma, blocks=BLOCKS, seed=seed)
        for seed in range(RUNS)
    ]
    factor = 1 - gamma * problem.mu * RATE
    for block in range(BLOCKS + 1):
        mean = sum(problem.value(run[block]) for run in runs) / RUNS
        assert mean <= factor**block * problem.value(start) * (1 + 1e-12)


def test_the_linear_rate_is_exact_where_the_curvature_is_one():
    """f = ½‖W‖² and γ = 1: a block removes H W, on average the share r/m of f."""
    generator, draws, W = seeded(10), 4000, random_matrix(M, N, seed=11)
    left = [(W - draw_projector(M, R, generator) @ W).square().sum() for _ in range(draws)]
    torch.testing.assert_close(sum(left) / draws, (1 - RATE) * W.square().sum(), rtol=0.02, atol=0)


def mean_squared_gradient(gradient: Gradient, *, gamma: float) -> Tensor:
    """E‖∇f‖² of :class:`Valley` at an iterate drawn uniformly, over all runs."""
    start = 2 * random_matrix(M, N, seed=12)
    runs = [
        chain(start, gradient, gamma=gamma, blocks=BLOCKS, seed=seed)[:-1] for seed in range(RUNS)
    ]
    norms = [Valley().gradient(W).square().sum() for run in runs for W in run]
    return torch.stack(norms).mean()


@pytest.mark.parametrize("gamma", [0.5, 0.1])
def test_sublinear_rate_without_convexity(gamma):
    gap = Valley().value(2 * random_matrix(M, N, seed=12))
    bound = 2 * gap / (RATE * gamma * BLOCKS)
    assert mean_squared_gradient(Valley().gradient, gamma=gamma) <= bound


@pytest.mark.parametrize("gamma", [0.5, 0.1])
def test_noisy_gradients_reach_a_ball_of_the_size_of_their_noise(gamma):
    variance, generator = 4.0, seeded(13)

    def noisy(W: Tensor) -> Tensor:
        noise = torch.randn(M, N, generator=generator)
        return Valley().gradient(W) + math.sqrt(variance / (M * N)) * noise

    gap = Valley().value(2 * random_matrix(M, N, seed=12))
    bound = 2 * gap / (RATE * gamma * BLOCKS) + Valley.L * gamma * variance
    reached = mean_squared_gradient(noisy, gamma=gamma)
    assert reached <= bound
    assert reached > mean_squared_gradient(Valley().gradient, gamma=gamma)


# Logistic regression, and random reshuffling ------------------------------------------------------


class Logistic:
    """Yes or no for each of M outputs, with a decay: smooth, and convex with the modulus μ."""

    mu = 0.1
    x, answers = random_matrix(30, N, seed=23), random_matrix(30, M, seed=24).sign()
    L = float(torch.linalg.matrix_norm(x, 2) ** 2 / (4 * len(x))) + mu

    def value(self, W: Tensor, rows: slice = slice(None)) -> Tensor:
        margins = self.answers[rows] * (self.x[rows] @ W.T)
        return softplus(-margins).sum(dim=1).mean() + self.mu / 2 * W.square().sum()

    def gradient(self, W: Tensor, rows: slice = slice(None)) -> Tensor:
        answers, x = self.answers[rows], self.x[rows]
        slopes = -answers * torch.sigmoid(-answers * (x @ W.T))
        return slopes.T @ x / len(x) + self.mu * W

    def best(self) -> Tensor:
        W = torch.zeros(M, N)
        for _ in range(1000):
            W = W - self.gradient(W) / self.L
        return W


def test_the_gradient_of_the_logistic_loss_is_autograds():
    W = random_matrix(M, N, seed=25).requires_grad_()
    (expected,) = torch.autograd.grad(Logistic().value(W), W)
    torch.testing.assert_close(Logistic().gradient(W.detach()), expected)


def test_logistic_regression_has_the_linear_rate_and_reaches_the_optimum():
    problem = Logistic()
    best, start = problem.value(problem.best()), 3 * random_matrix(M, N, seed=26)
    runs = [
        chain(start, problem.gradient, gamma=1 / problem.L, blocks=150, seed=seed)
        for seed in range(RUNS)
    ]
    gap, factor = problem.value(start) - best, 1 - problem.mu / problem.L * RATE
    for block in (0, 10, 40, 150):
        mean = sum(problem.value(run[block]) for run in runs) / RUNS - best
        assert mean <= factor**block * gap * (1 + 1e-9)
    assert max(problem.gradient(run[-1]).norm() for run in runs) < 0.05


def test_on_logistic_regression_one_frozen_factor_stops_short():
    problem, generator = Logistic(), seeded(27)
    H, W = draw_projector(M, R, generator), torch.zeros(M, N)
    for _ in range(2000):
        W = W - H @ problem.gradient(W) / problem.L
    assert (H @ problem.gradient(W)).norm() < 1e-8
    assert problem.gradient(W).norm() > 0.1


def distance_after(gamma: float, *, is_reshuffled: bool, blocks: int = 300) -> float:
    """Mean squared distance from the optimum over the last blocks of an epoch each, in six parts.

    The sketch stays for an epoch. Reshuffled, each part is taken once an epoch; else parts are
    drawn anew each step.
    """
    problem, generator = Logistic(), seeded(28)
    best, W, late = problem.best(), torch.zeros(M, N), []
    parts = [slice(5 * part, 5 * part + 5) for part in range(6)]
    for block in range(blocks):
        H = draw_projector(M, R, generator)
        order = torch.randperm(6, generator=generator)
        if not is_reshuffled:
            order = torch.randint(0, 6, (6,), generator=generator)
        for part in order.tolist():
            W = W - gamma * H @ problem.gradient(W, parts[part])
        if block >= blocks // 2:
            late.append(float((W - best).square().sum()))
    return sum(late) / len(late)


def test_random_reshuffling_comes_closer_than_drawing_with_replacement():
    assert distance_after(0.1, is_reshuffled=True) < distance_after(0.1, is_reshuffled=False) / 3


def test_the_noise_ball_of_random_reshuffling_falls_faster_than_the_step():
    """Its variance is of the order γ², where that of draws with replacement is of the order γ."""
    wide, narrow = (distance_after(gamma, is_reshuffled=True) for gamma in (0.4, 0.1))
    assert narrow < wide / 8


# Where others stop -----------------------------------------------------------------------------


def test_on_the_counter_example_of_the_paper_one_frozen_factor_stops_short():
    """3×3 matrices seen as 9-vectors with Hessian diag(10, 1, …, 1) and a linear term; rank 1."""
    curvature = torch.ones(3, 3)
    curvature[0, 0] = 10
    optimum = random_matrix(3, 3, seed=14)

    def gradient(W: Tensor) -> Tensor:
        return curvature * (W - optimum)

    generator, gamma = seeded(15), 1 / 10
    H = draw_projector(3, 1, generator)
    fixed = resampled = torch.zeros(3, 3)
    for _ in range(1500):
        fixed = fixed - gamma * H @ gradient(fixed)
        resampled = resampled - gamma * draw_projector(3, 1, generator) @ gradient(resampled)

    torch.testing.assert_close(H @ gradient(fixed), torch.zeros(3, 3), rtol=0, atol=1e-8)
    assert gradient(fixed).norm() > 0.5
    torch.testing.assert_close(resampled, optimum, rtol=0, atol=1e-8)


def train_lora(target: Tensor, r: int, *, steps: int, lr: float) -> Tensor:
    """Gradient descent on both factors of one LoRA for ½‖B A − W*‖²."""
    B, A = torch.zeros(len(target), r), random_matrix(r, target.shape[1], seed=16)
    for _ in range(steps):
        G = B @ A - target
        B, A = B - lr * G @ A.T, A - lr * B.T @ G
    return B @ A


@pytest.mark.parametrize("r", [1, 2])
def test_a_chain_passes_the_floor_where_one_adapter_of_its_rank_stalls(r):
    spectrum = torch.tensor([2.0, 1.5, 1.0])
    target = matrix_with_spectrum(spectrum, 6, 5, seed=17)
    floor = spectrum[r:].square().sum()
    single = train_lora(target, r, steps=3000, lr=0.05)
    torch.testing.assert_close((single - target).square().sum(), floor)

    generator, W, blocks = seeded(18), torch.zeros(6, 5), 0
    while (W - target).square().sum() > 1e-12:
        W = W - draw_projector(6, r, generator) @ (W - target)
        blocks += 1
        assert torch.linalg.matrix_rank(W) <= blocks * r
        assert blocks < 300


# Federated -------------------------------------------------------------------------------------


def test_a_shared_sketch_makes_averaging_exact():
    B = sketch((6, 5), 2, side="left", kind="orthonormal", generator=seeded(19))
    clients = random_matrix(4, 2, 5, seed=20)
    torch.testing.assert_close((B @ clients).mean(dim=0), B @ clients.mean(dim=0))


def test_averaging_both_factors_is_not_exact():
    B, A = random_matrix(4, 6, 2, seed=21), random_matrix(4, 2, 5, seed=22)
    assert ((B @ A).mean(dim=0) - B.mean(dim=0) @ A.mean(dim=0)).norm() > 1
