"""A block under one gradient step: the method that the paper analyses."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from rankwise.methods.chain.chain import Chain
from tests.golden.cases import on_golden_cases
from tests.models.chains import (
    layers,
    trained,
)

SIDES = ("left", "right", "both")
KINDS = ("gaussian", "orthonormal", "kaiming", "selector")


def pair(layer):
    return layer.lora_B["default"].weight, layer.lora_A["default"].weight


def regression(W0):
    model = nn.Sequential(nn.Linear(W0.shape[1], W0.shape[0], bias=False, dtype=W0.dtype))
    with torch.no_grad():
        model[0].weight.copy_(W0)
    return model


def descend(model, X, Y, *, lr, steps):
    parameters = trained(model)
    for _ in range(steps):
        loss = ((model(X) - Y) ** 2).sum() / (2 * len(X))
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters), strict=True
        ):
            with torch.no_grad():
                parameter -= lr * gradient


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_gradient_step_a_block_moves_the_weight_as_in_the_analysis(side):
    generator = torch.Generator().manual_seed(0)
    X, Y, W = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((20, 6), (20, 4), (4, 6))
    )
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["0"])
    model = get_peft_model(regression(W), config)
    chain = Chain(model, side=side)
    (layer,) = layers(model).values()
    for _ in range(10):
        B, A = (factor.detach().clone() for factor in pair(layer))
        gradient = (X @ W.T - Y).T @ X / len(X)
        step = 9 * (B @ B.T @ gradient if side == "left" else gradient @ A.T @ A)  # s² = 9
        W = W - 0.001 * step
        descend(model, X, Y, lr=0.001, steps=1)
        chain.fold()
        torch.testing.assert_close(layer.weight.data, W, rtol=1e-10, atol=1e-12)


def computed_chain():
    """The paths that the golden files hold, for one more case, from the gradient by formula."""
    generator = torch.Generator().manual_seed(4)
    shapes = {
        "X": (9, 5),
        "Y": (9, 3),
        "W0": (3, 5),
        "sampled_A": (4, 2, 5),
        "sampled_B": (4, 3, 2),
    }
    case = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    X, Y, s, lr = case["X"], case["Y"], 1.5, 0.02
    for path in ("rac_trainA", "rac_trainB", "cola"):
        weights = [case["W0"]]
        for A, B in zip(case["sampled_A"], case["sampled_B"], strict=True):
            B, A = (B, 0 * A) if path == "rac_trainA" else (0 * B, A)
            for _ in range(3):
                gradient = s * (X @ (weights[-1] + s * B @ A).T - Y).T @ X / len(X)
                B, A = (
                    B if path == "rac_trainA" else B - lr * gradient @ A.T,
                    A if path == "rac_trainB" else A - lr * B.T @ gradient,
                )
            weights.append(weights[-1] + s * B @ A)
        case[f"{path}.W"] = torch.stack(weights)
    return {**case, "scaling": s, "lr": lr, "inner_steps": 3}


@pytest.mark.parametrize(
    ("path", "side"), [("rac_trainA", "left"), ("rac_trainB", "right"), ("cola", "both")]
)
@on_golden_cases("raclora_chain", computed=computed_chain())
def test_a_chain_follows_the_known_path(case, path, side):
    links, r, _ = case["sampled_A"].shape
    config = LoraConfig(r=r, lora_alpha=r * float(case["scaling"]), target_modules=["0"])
    model = get_peft_model(regression(case["W0"]), config)
    chain = Chain(model, side=side)
    (layer,) = layers(model).values()
    B, A = pair(layer)
    for link in range(links):
        sketch = case["sampled_B" if side == "left" else "sampled_A"][link]
        (B if side == "left" else A).data.copy_(sketch)
        steps, lr = int(case["inner_steps"]), float(case["lr"])
        descend(model, case["X"], case["Y"], lr=lr, steps=steps)
        chain.fold()
        torch.testing.assert_close(
            layer.weight.data, case[f"{path}.W"][link + 1], rtol=1e-9, atol=1e-12
        )
    chain.finish()
    assert torch.equal(layer.weight.data, case["W0"])
