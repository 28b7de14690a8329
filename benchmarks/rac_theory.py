"""What RAC-LoRA's theory says, as numbers and plots: where other chains stop, and how fast it goes.

    python benchmarks/rac_theory.py [--images docs/images] [--tiny]

After Malinovsky et al. (2024), arXiv 2410.08305: the counter-example of Section 3, the speed on
linear regression of Figure 2, and the rates of Theorems 5.3 and 5.5. The paper's dimensions,
starts, linear term and numbers of steps are not known to us: these are ours. All in float64; a
"block" of RAC-LoRA is an orthonormal sketch and one plain gradient step,

    W⁺ = W − γ H ∇f(W),    H = B Bᵀ,  E[H] = (r/m) I.

The plots need Chromium and Playwright; without ``--images`` none are drawn.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from rich.console import Console
from rich.table import Table
from torch import Tensor

from rankwise.functional.sketches import sketch
from rankwise.pages.palette import GRID, INK, PALETTE, PAPER

Gradient = Callable[[Tensor], Tensor]
Curve = list[float]


@dataclass(frozen=True)
class Effort:
    """How long and how often everything runs."""

    seeds: int = 10
    steps: int = 4000  # of the counter-example
    runs: int = 40  # of what is a mean
    blocks: int = 200  # of the linear rate
    noisy_blocks: int = 400


TINY = Effort(seeds=1, steps=60, runs=2, blocks=5, noisy_blocks=5)


def seeded(seed: int) -> torch.Generator:
    """Return a generator of its own for each use."""
    return torch.Generator().manual_seed(seed)


def frame(m: int, r: int, generator: torch.Generator) -> Tensor:
    """Draw an orthonormal B (m, r)."""
    return sketch((m, m), r, side="left", kind="orthonormal", generator=generator)


# The counter-example: 3×3 matrices as 9-vectors, Hessian diag(10, 1, …, 1), rank 1 --------------

CURVATURE = torch.ones(3, 3, dtype=torch.float64)
CURVATURE[0, 0] = 10
COLA_BLOCK, DIVERGED = 50, 1e6


def both_factors(
    gradient: Gradient, lr: float, generator: torch.Generator, *, block: int, steps: int
) -> Curve:
    """LoRA, or COLA where ``block`` is less than all steps: A Gaussian, B zero, both trained."""
    W, values = torch.zeros(3, 3), []
    base, B, A = W, torch.zeros(3, 1), torch.zeros(1, 3)
    for step in range(steps):
        if step % block == 0:
            base, B, A = W, torch.zeros(3, 1), torch.randn(1, 3, generator=generator)
        values.append(float(gradient(W).norm()))
        if not values[-1] < DIVERGED:
            return values + [math.inf] * (steps - len(values))
        G = gradient(W)
        B, A = B - lr * G @ A.T, A - lr * B.T @ G
        W = base + B @ A
    return values


def one_factor(
    gradient: Gradient, lr: float, generator: torch.Generator, *, fresh: bool, steps: int
) -> Curve:
    """AsymmLoRA, or RAC-LoRA where the frozen B is drawn afresh for each step."""
    W, values, B = torch.zeros(3, 3), [], frame(3, 1, generator)
    for _ in range(steps):
        values.append(float(gradient(W).norm()))
        W = W - lr * B @ (B.T @ gradient(W))
        B = frame(3, 1, generator) if fresh else B
    return values


def full(gradient: Gradient, lr: float, *, steps: int) -> Curve:
    """Gradient descent on the matrix."""
    W, values = torch.zeros(3, 3), []
    for _ in range(steps):
        values.append(float(gradient(W).norm()))
        W = W - lr * gradient(W)
    return values


def counter_example(lr: float, scale: float, effort: Effort) -> dict[str, list[Curve]]:
    """Return ‖∇f‖ over steps, a curve a seed; the optimum is Gaussian of deviation ``scale``."""
    curves: dict[str, list[Curve]] = {}
    steps = effort.steps
    for seed in range(effort.seeds):
        optimum = scale * torch.randn(3, 3, generator=seeded(seed))

        def gradient(W: Tensor, optimum: Tensor = optimum) -> Tensor:
            return CURVATURE * (W - optimum)

        generator = seeded(1000 + seed)
        for name, curve in {
            "full": full(gradient, lr, steps=steps),
            "LoRA": both_factors(gradient, lr, generator, block=steps, steps=steps),
            "COLA": both_factors(gradient, lr, generator, block=COLA_BLOCK, steps=steps),
            "AsymmLoRA": one_factor(gradient, lr, generator, fresh=False, steps=steps),
            "RAC-LoRA": one_factor(gradient, lr, generator, fresh=True, steps=steps),
        }.items():
            curves.setdefault(name, []).append(curve)
    return curves


# Rates ------------------------------------------------------------------------------------------

SIZE, RANKS = 16, (1, 2, 4, 8, 16)


def blocks_to(
    gradient: Gradient, value: Callable[[Tensor], float], r: int, gamma: float, seed: int
):
    """Return how many blocks it takes until f is a thousandth of what it was."""
    W, generator, blocks = torch.zeros(SIZE, SIZE), seeded(seed), 0
    goal = 1e-3 * value(W)
    while value(W) > goal:
        B = frame(SIZE, r, generator)
        W, blocks = W - gamma * B @ (B.T @ gradient(W)), blocks + 1
    return blocks


def regression_speed(effort: Effort) -> dict[int, float]:
    """Return mean blocks to a thousandth of the loss, by rank; r = n is gradient descent.

    Least squares of 16 outputs on 16 inputs, 64 rows whose inputs are orthogonal: L = μ = 1.
    """
    X = torch.linalg.qr(torch.randn(64, SIZE, generator=seeded(0))).Q
    target = torch.randn(SIZE, SIZE, generator=seeded(1)) @ X.T

    def gradient(W: Tensor) -> Tensor:
        return (W @ X.T - target) @ X

    def value(W: Tensor) -> float:
        return float((W @ X.T - target).square().sum() / 2)

    gamma = 0.1
    return {
        r: sum(blocks_to(gradient, value, r, gamma, seed) for seed in range(effort.seeds))
        / effort.seeds
        for r in RANKS
    }


M, N = 6, 4
SPREAD = torch.linspace(1, 10, M * N, dtype=torch.float64).reshape(M, N)


def linear_rate(r: int, effort: Effort) -> tuple[Curve, Curve]:
    """Return mean f/f₀ over blocks on a quadratic, μ = 1 and L = 10, and Theorem 5.5's bound."""
    optimum, gamma = torch.randn(M, N, generator=seeded(2)), 1 / 10
    blocks = effort.blocks
    total = torch.zeros(blocks + 1)
    for seed in range(effort.runs):
        W, generator = torch.zeros(M, N), seeded(seed)
        for block in range(blocks + 1):
            total[block] += (SPREAD * (W - optimum).square()).sum() / 2
            B = frame(M, r, generator)
            W = W - gamma * B @ (B.T @ (SPREAD * (W - optimum)))
    bound = [(1 - gamma * r / M) ** block for block in range(blocks + 1)]
    return (total / total[0]).tolist(), bound


def noise_ball(gamma: float, *, deviation: float, effort: Effort) -> tuple[float, float]:
    """Return E‖∇f‖² over all iterates of a noisy chain of rank 2, and its bound.

    f = Σ w²/(1+w²) is smooth with L = 2 and not convex; the noise has variance σ². The bound is
    2 Δ / (λ γ T) + L γ σ² with λ = r/m, by Theorem 5.3's argument (its constants for SGD are ours).
    """
    start, r = 2 * torch.randn(M, N, generator=seeded(3)), 2
    blocks = effort.noisy_blocks

    def gradient(W: Tensor) -> Tensor:
        return 2 * W / (1 + W.square()).square()

    norms = []
    for seed in range(effort.runs):
        W, generator = start, seeded(seed)
        for _ in range(blocks):
            norms.append(float(gradient(W).square().sum()))
            noise = deviation / math.sqrt(M * N) * torch.randn(M, N, generator=generator)
            B = frame(M, r, generator)
            W = W - gamma * B @ (B.T @ (gradient(W) + noise))
    gap = float((start.square() / (1 + start.square())).sum())
    return sum(norms) / len(norms), 2 * gap / (r / M * gamma * blocks) + 2 * gamma * deviation**2


# Tables -----------------------------------------------------------------------------------------


def median(curves: list[Curve]) -> Curve:
    """Return the median over seeds, step by step."""
    return torch.tensor(curves).median(dim=0).values.tolist()


def show_counter_example(
    console: Console, effort: Effort
) -> dict[tuple[float, float], dict[str, list[Curve]]]:
    """Print where each method ends."""
    about = f"median of {effort.seeds} seeds (share that diverged)"
    table = Table(title=f"‖∇f‖ after {effort.steps} steps, {about}")
    for column in ("optimum", "step", "full", "LoRA", "COLA", "AsymmLoRA", "RAC-LoRA"):
        table.add_column(column, justify="right")
    found = {}
    for scale in (1.0, 10.0):
        for step in (1.0, 0.1, 0.01):
            curves = found[scale, step] = counter_example(step / 10, scale, effort)
            cells = []
            for each in curves.values():
                lost = sum(math.isinf(curve[-1]) for curve in each) / effort.seeds
                cells.append(f"{median(each)[-1]:.1e}" + (f" ({lost:.0%})" if lost else ""))
            table.add_row(f"N(0, {scale:g}²)", f"{step:g}/L", *cells)
    console.print(table)
    return found


def show_speed(console: Console, effort: Effort) -> dict[int, float]:
    """Print the speed on linear regression against r/n."""
    blocks = regression_speed(effort)
    table = Table(title=f"linear regression, n = {SIZE}: blocks to a thousandth of the loss")
    for column in ("r", "blocks", "speed / full", "r/n"):
        table.add_column(column, justify="right")
    for r, count in blocks.items():
        cells = (f"{count:.1f}", f"{blocks[SIZE] / count:.4f}", f"{r / SIZE:.4f}")
        table.add_row(str(r), *cells)
    console.print(table)
    return blocks


def show_rates(console: Console, effort: Effort) -> dict[int, tuple[Curve, Curve]]:
    """Print the measured linear rate against the bound."""
    curves = {r: linear_rate(r, effort) for r in (1, 2, 3, 6)}
    what = "quadratic 6×4, μ = 1, L = 10, γ = 1/L"
    table = Table(title=f"{what}: mean f/f₀ after {effort.blocks} blocks")
    for column in ("r", "measured", "bound", "bound holds at every block"):
        table.add_column(column, justify="right")
    for r, (measured, bound) in curves.items():
        holds = all(value <= most * (1 + 1e-9) for value, most in zip(measured, bound))
        table.add_row(str(r), f"{measured[-1]:.1e}", f"{bound[-1]:.1e}", "yes" if holds else "NO")
    console.print(table)
    return curves


def show_noise(console: Console, effort: Effort) -> list[tuple[float, float, float, float]]:
    """Print the mean squared gradient with noise against the bound."""
    table = Table(title=f"smooth, not convex, r = 2 of 6, {effort.noisy_blocks} blocks: mean ‖∇f‖²")
    for column in ("σ", "γ", "measured", "bound"):
        table.add_column(column, justify="right")
    found = []
    for deviation in (0.0, 2.0):
        for gamma in (0.5, 0.2, 0.1, 0.05):
            pair = noise_ball(gamma, deviation=deviation, effort=effort)
            found.append((deviation, gamma, *pair))
            table.add_row(f"{deviation:g}", f"{gamma:g}", *(f"{value:.3f}" for value in pair))
    console.print(table)
    return found


# Plots ------------------------------------------------------------------------------------------

COLOURS: dict[str, str] = dict(
    zip(("full", "LoRA", "COLA", "AsymmLoRA", "RAC-LoRA"), (INK, *PALETTE))
)


def draw_counter_example(found: dict[tuple[float, float], dict[str, list[Curve]]]) -> go.Figure:
    """Draw the gradient's norm over steps, at the step 1/L and at a tenth of it."""
    shown = [(1.0, 1.0), (10.0, 1.0), (10.0, 0.1)]
    titles = [f"optimum N(0, {scale:g}²), step {step:g}/L" for scale, step in shown]
    figure = make_subplots(1, 3, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.03)
    for place, key in enumerate(shown, start=1):
        for name, curves in found[key].items():
            values = median(curves)
            steps = [step for step in range(len(values)) if step % (2 if step < 200 else 40) == 0]
            line = {"color": COLOURS[name], "width": 2}
            trace = go.Scatter(
                x=steps,
                y=[values[step] if values[step] > 1e-12 else None for step in steps],
                name=name,
                line=line,
                showlegend=place == 1,
            )
            figure.add_trace(trace, 1, place)
    figure.update_yaxes(type="log", exponentformat="power", range=[-12, 4])
    figure.update_yaxes(title_text="‖∇f‖, median over seeds", col=1)
    figure.update_xaxes(title_text="gradient steps")
    return figure


def draw_rates(
    blocks: dict[int, float],
    curves: dict[int, tuple[Curve, Curve]],
    noise: list[tuple[float, float, float, float]],
) -> go.Figure:
    """Draw the speed over r/n, the linear rates with their bounds, and the ball of the noise."""
    titles = ["speed on linear regression", "linear rate, and its bound (dotted)", "noise ball"]
    figure = make_subplots(1, 3, subplot_titles=titles, horizontal_spacing=0.08)
    shares = [r / SIZE for r in blocks]
    line = {"mode": "lines", "line": {"color": INK, "dash": "dot"}, "showlegend": False}
    speed = [blocks[SIZE] / count for count in blocks.values()]
    points = {"x": shares, "y": speed, "mode": "markers", "showlegend": False}
    bound = go.Scatter(x=shares, y=shares, **line)
    figure.add_traces([bound, go.Scatter(**points, marker={"color": PALETTE[0], "size": 9})], 1, 1)
    for colour, (r, pair) in zip(PALETTE, curves.items()):
        for values, dash, name in zip(pair, ("solid", "dot"), (f"r = {r} of {M}", None)):
            line = {"color": colour, "dash": dash}
            trace = go.Scatter(y=values, line=line, name=name, showlegend=name is not None)
            figure.add_trace(trace, 1, 2)
    for colour, deviation in zip(PALETTE[4:], sorted({row[0] for row in noise})):
        rows = [row for row in noise if row[0] == deviation]
        for column, dash, name in ((2, "solid", f"noise σ = {deviation:g}"), (3, "dot", None)):
            x, y = [row[1] for row in rows], [row[column] for row in rows]
            line = {"color": colour, "dash": dash}
            trace = go.Scatter(x=x, y=y, line=line, name=name, showlegend=name is not None)
            figure.add_trace(trace, 1, 3)
    figure.update_xaxes(title_text="r/n", type="log", col=1)
    figure.update_yaxes(title_text="speed, gradient descent = 1", type="log", col=1)
    figure.update_xaxes(title_text="blocks", col=2)
    figure.update_yaxes(title_text="f/f₀", type="log", exponentformat="power", col=2)
    figure.update_yaxes(range=[-9, 0.2], col=2)
    figure.update_xaxes(title_text="γ", type="log", col=3)
    figure.update_yaxes(title_text="mean ‖∇f‖²", type="log", col=3)
    return figure


def write_image(figure: go.Figure, file: Path, *, width: int = 1200, height: int = 400) -> None:
    """Draw ``figure`` in Chromium and write what it shows as a PNG."""
    from picture import opened_page  # only plots need Playwright

    figure.update_layout(
        width=width, height=height, paper_bgcolor=PAPER, plot_bgcolor=PAPER, font={"color": INK}
    )
    figure.update_layout(legend={"orientation": "h", "y": -0.2}, margin={"t": 40, "b": 80})
    figure.update_xaxes(gridcolor=GRID, zeroline=False)
    figure.update_yaxes(gridcolor=GRID, zeroline=False)
    page_text = figure.to_html(include_plotlyjs=True, config={"staticPlot": True})
    with opened_page(width + 16, height + 16) as page:
        page.set_content(page_text)
        page.wait_for_selector(".legend")
        page.locator(".svg-container").screenshot(path=file)


def main(words: Sequence[str] | None = None) -> None:
    """Print the tables, and draw the plots if a folder for them is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="folder for rac-*.png")
    parser.add_argument("--tiny", action="store_true", help="few steps: does every line run?")
    arguments = parser.parse_args(words)
    effort, console = TINY if arguments.tiny else Effort(), Console(width=110)
    with default_dtype(torch.float64):
        example = show_counter_example(console, effort)
        speed, rates = show_speed(console, effort), show_rates(console, effort)
        noise = show_noise(console, effort)
    figures = {
        "counter-example": draw_counter_example(example),
        "rates": draw_rates(speed, rates, noise),
    }
    if arguments.images is not None:
        for name, figure in figures.items():
            write_image(figure, arguments.images / f"vision-rac-{name}.png")


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Compute in ``dtype`` for a moment."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


if __name__ == "__main__":
    main()
