"""Numbers of LoRA-SB from outside: its golden files, at the tolerance that their README states."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from rankwise.functional import update_factors
from tests.golden.cases import Case, close, golden, trainable


@golden(
    "lorasb_init",
    r=1,
    kind="raw",
    G=[[2.0, 0.0], [0.0, 1.0]],
    lr=0.5,
    target=[[-1.0, 0.0], [0.0, -0.5]],
    singular_values=[1.0, 0.5],
    product=[[-1.0, 0.0], [0.0, 0.0]],
    residual_fro=0.5,
)
def test_lorasb_init(case: Case):
    r, lr, arguments = case["r"], float(case["lr"]), {"lr": float(case["lr"]), "mode": case["kind"]}
    if not case["G"].any():
        with pytest.raises(ValueError, match="gradient is zero everywhere"):
            update_factors(case["G"], r=r, **arguments)
        return
    B, R, A = update_factors(case["G"], r=r, **arguments)
    tolerance = {"rtol": 1e-9, "atol": 1e-12 * lr}
    close(B @ R @ A, case["product"], **tolerance)
    close(R.diagonal(), case["singular_values"][:r], **tolerance)
    close((case["target"] - B @ R @ A).norm(), case["residual_fro"], rtol=1e-9, atol=1e-12 * lr)
    close(B.T @ B, torch.eye(r))
    close(A @ A.T, torch.eye(r))
    if "ref_product" in case:
        ours, published = (B @ R @ A - case["product"], case["ref_product"] - case["product"])
        assert ours.norm() < published.norm()


@golden(
    "lorasb_forward",
    W=[[0.0, 0.0], [0.0, 0.0]],
    A=[[1.0, 0.0]],
    B=[[0.0], [1.0]],
    R=[[3.0]],
    scaling=2.0,
    x=[[5.0, 7.0]],
    cotangent=[[1.0, 10.0]],
    y=[[0.0, 30.0]],
    delta=[[0.0, 0.0], [6.0, 0.0]],
    merged=[[0.0, 0.0], [6.0, 0.0]],
    grad_R=[[100.0]],
)
def test_lorasb_forward(case: Case):
    A, B, R, s = case["A"], case["B"], trainable(case["R"]), case["scaling"]
    weight = trainable(case["W"] + s * B @ case["R"] @ A)
    close(weight, case["merged"])
    close(s * B @ R @ A, case["delta"])

    y = linear(case["x"], case["W"], case.get("b")) + s * case["x"] @ A.T @ R.T @ B.T
    close(y, case["y"])
    (grad_R,) = torch.autograd.grad((y * case["cotangent"]).sum(), R)
    close(grad_R, case["grad_R"])

    dense = (linear(case["x"], weight, case.get("b")) * case["cotangent"]).sum()
    (grad_W,) = torch.autograd.grad(dense, weight)
    close(s * B.T @ grad_W @ A.T, case["grad_R"])


@golden(
    "lorasb_gradacc",
    per_sample_grads=[[[2.0, -6.0]], [[2.0, 0.0]], [[-1.0, 4.0]]],
    batch_sizes=[2, 1],
    correct_mean=[[1.0, -2 / 3]],
    source_sum=[[0.0, 2.5]],
    sign_disagreement=1.0,
)
def test_lorasb_gradient_over_unequal_batches(case: Case):
    sizes = case["batch_sizes"].long().tolist()
    means = [batch.mean(dim=0) for batch in case["per_sample_grads"].split(sizes)]
    total = torch.stack([n * mean for n, mean in zip(sizes, means, strict=True)]).sum(dim=0)
    close(total / sum(sizes), case["correct_mean"], rtol=1e-12)
    # Sums will do for the init: signs forget how many samples there were, not their weights.
    product = _product(update_factors(total, r=1, lr=1.0))
    close(product, _product(update_factors(case["correct_mean"], r=1, lr=1.0)))
    disagreement = (case["source_sum"].sign() != total.sign()).double().mean()
    close(disagreement, case["sign_disagreement"])


def _product(factors: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    B, R, A = factors
    return B @ R @ A
