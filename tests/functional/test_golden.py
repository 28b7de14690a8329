"""Numbers from outside: every golden file, at the tolerance that its README states."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, log_softmax, relu

from rankwise.functional import (
    boundary_layer_weights,
    boundary_loss,
    compress,
    delora_delta,
    information_loss,
    sign_agreement,
    tangent_projection,
    update_factors,
)
from rankwise.functional.delora import delora_gains
from tests.golden.cases import Case, on_golden_cases


def golden(file: str, **by_hand: Any) -> pytest.MarkDecorator:
    """Run a test on each case of a golden file and on one by hand, which has the same names."""
    hand = {
        name: torch.tensor(value, dtype=torch.float64) if isinstance(value, list | float) else value
        for name, value in by_hand.items()
    }
    return on_golden_cases(file, **{"by-hand": hand})


def close(actual: Tensor, expected: Tensor, *, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=rtol, atol=atol)


def trainable(tensor: Tensor) -> Tensor:
    return tensor.clone().requires_grad_()


# ABM-LoRA --------------------------------------------------------------------------------------


@golden(
    "abm_loss",
    **{
        "n_layers": 1,
        "weights": [2.0],
        "margin": 0.5,
        "student.layer_0": [[2.0, 0.0]],
        "teacher.layer_0": [[1.0, -1.0]],
        "loss": 0.25,
        "grad_student.layer_0": [[0.0, 1.0]],
        "match_acc.layer_0": 1.0,
    },
)
def test_abm_loss(case: Case):
    names = [f"layer_{layer}" for layer in range(case["n_layers"])]
    shared = [i for i, n in enumerate(names) if f"student.{n}" in case and f"teacher.{n}" in case]
    student = [trainable(case[f"student.{names[i]}"]) for i in shared]
    teacher = [case[f"teacher.{names[i]}"] for i in shared]
    arguments = {"margin": case["margin"], "layer_weights": case["weights"][shared]}

    loss = boundary_loss(student, teacher, **arguments)
    gradients = torch.autograd.grad(loss, student)

    close(loss, case["loss"])
    for i, layer, target, gradient in zip(shared, student, teacher, gradients, strict=True):
        close(gradient, case[f"grad_student.{names[i]}"])
        close(sign_agreement([layer], [target]), case[f"match_acc.{names[i]}"], atol=1e-6)
    if len(shared) < len(names):
        with pytest.raises(ValueError, match="one weight for each"):
            boundary_loss(student, teacher, margin=0.5, layer_weights=case["weights"])


@golden(
    "abm_linear",
    steps=1,
    x=[[1.0]],
    W=[[0.0]],
    c=[0.0],
    Wt=[[1.0]],
    ct=[0.0],
    A=[[1.0]],
    B=[[0.0]],
    scaling=2.0,
    margin=1.0,
    lr=0.25,
    grad_A=[[0.0]],
    grad_B=[[-4.0]],  # L = (1 − 2B)²
    losses=[1.0, 0.0],
    match_acc=[0.0, 1.0],
    A_traj=[[[1.0]], [[1.0]]],
    B_traj=[[[0.0]], [[1.0]]],
)
def test_abm_through_an_adapted_layer(case: Case):
    A, B = trainable(case["A"]), trainable(case["B"])
    target = linear(case["x"], case["Wt"], case["ct"])
    for step in range(case["steps"] + 1):
        close(A, case["A_traj"][step])
        close(B, case["B_traj"][step])
        z = linear(case["x"], case["W"] + case["scaling"] * B @ A, case["c"])
        loss = boundary_loss([z], [target], margin=case["margin"], layer_weights=[1.0])
        close(loss, case["losses"][step])
        close(sign_agreement([z], [target]), case["match_acc"][step], atol=1e-6)
        grad_A, grad_B = torch.autograd.grad(loss, (A, B))
        if step == 0:
            close(grad_A, case["grad_A"])
            close(grad_B, case["grad_B"])
        A, B = trainable(A - case["lr"] * grad_A), trainable(B - case["lr"] * grad_B)


@golden("abm_schedule", num_layers=2, use_decoder=True, weights=[0.25, 1.0, 0.25, 1.0])
def test_abm_schedule(case: Case):
    stacks = 2 if case["use_decoder"] else 1
    weights = boundary_layer_weights(case["num_layers"]) * stacks
    close(torch.tensor(weights, dtype=torch.float64), case["weights"], rtol=0, atol=1e-15)


@golden(
    "info_loss",
    G=[[3.0, 1.0], [2.0, 1.0]],
    B=[[1.0], [0.0]],
    A=[[1.0, 0.0]],
    projection=[[3.0, 1.0], [2.0, 0.0]],
    info_loss=1.0,
    relative=1 / 15,
    loss_B_only=2.0,
    loss_A_only=5.0,
)
def test_information_loss(case: Case):
    G, B, A = case["G"], case["B"], case["A"]
    tolerance = {"rtol": 1e-9, "atol": 1e-10 * float(G.square().sum())}
    close(tangent_projection(G, B, A), case["projection"], **tolerance)
    close(information_loss(G, B, A), case["info_loss"], **tolerance)
    close(information_loss(G, 0 * B, A), case["loss_B_only"], **tolerance)
    close(information_loss(G, B, 0 * A), case["loss_A_only"], **tolerance)
    close(information_loss(G, B, A, relative=True), case["relative"], rtol=1e-9, atol=1e-10)


# LoRA-SB ---------------------------------------------------------------------------------------


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


# DeLoRA ----------------------------------------------------------------------------------------


def check_delora_layer(case: Case, parts: SimpleNamespace, delta: Tensor) -> None:
    """Compare change, output and gradients; the cotangent makes the loss sum(y * C)."""
    y = linear(case["x"], case["W"] + delta, case.get("b"))
    close(delta, case["delta"])
    close(y, case["y"])
    close(case["W"] + delta, case["merged"])
    gradients = torch.autograd.grad(
        (y * case["cotangent"]).sum(), [parts.A, parts.B, parts.strength]
    )
    for gradient, name in zip(gradients, ("grad_A", "grad_B", "grad_lambda"), strict=True):
        close(gradient, case[name])


DELORA_BY_HAND = {
    "W": [[3.0, 0.0], [4.0, 1.0]],
    "A": [[2.0, 0.0]],
    "B": [[3.0], [4.0]],
    "x": [[1.0, 1.0]],
    "cotangent": [[1.0, 0.0]],
    "lambda": [10.0],
    "w_norm": [5.0, 1.0],
    "grad_A": [[0.0, 3.0]],  # 10 · 0.6 · w_norm[1] / ‖a‖
    "grad_B": [[6.4], [-4.8]],  # 10 · 5/5 · (I − b bᵀ/25) e_1
}


@golden(
    "delora_official",
    **DELORA_BY_HAND,
    C=[[0.0, 1.0]],
    D=[[1.0], [0.0]],
    delta=[[30.0, -10.0], [40.0, 0.0]],
    y=[[23.0, 45.0]],
    merged=[[33.0, -10.0], [44.0, 1.0]],
    grad_lambda=[2.0],
)
def test_delora_of_the_authors(case: Case):
    parts = SimpleNamespace(
        A=trainable(case["A"]), B=trainable(case["B"]), strength=trainable(case["lambda"])
    )
    column_norms = case["W"].norm(dim=0)
    close(column_norms, case["w_norm"])
    delta = delora_delta(parts.B, parts.A, parts.strength, column_norms, B0=case["D"], A0=case["C"])
    check_delora_layer(case, parts, delta)


@golden(
    "delora_peft",
    **DELORA_BY_HAND,
    delta=[[30.0, 0.0], [40.0, 0.0]],
    y=[[33.0, 45.0]],
    merged=[[33.0, 0.0], [44.0, 1.0]],
    grad_lambda=[3.0],
    fro_core=10.0,
)
def test_delora_of_peft(case: Case):
    parts = SimpleNamespace(
        A=trainable(case["A"]), B=trainable(case["B"]), strength=trainable(case["lambda"])
    )
    gains = delora_gains(parts.B, parts.A, parts.strength, minimum_norm=1e-4)
    core = (parts.B * gains) @ parts.A
    close(core.norm(), case["fro_core"])
    check_delora_layer(case, parts, core * case["w_norm"])
    if min(case["A"].norm(dim=1).min(), case["B"].norm(dim=0).min()) > 1e-4:
        close(delora_delta(parts.B, parts.A, parts.strength, case["w_norm"]), case["delta"])


# RAC-LoRA --------------------------------------------------------------------------------------


def _one_layer(name: str) -> dict[str, list]:
    return {
        f"{name}.weight": [[0.0]],
        f"{name}.bias": [0.0],
        f"{name}.lora_A": [[1.0]],
        f"{name}.lora_B": [[1.0]],
        f"{name}.merged": [[2.0]],
    }


@golden(
    "raclora_merge",
    x=[[[[1.0]]]],
    alpha=2.0,
    **_one_layer("l1"),
    **_one_layer("l2"),
    **_one_layer("l3"),
    logprob=[[0.0]],
    logprob_after_merge=[[0.0]],
)
def test_raclora_merge(case: Case):
    adapted = merged = case["x"].flatten(start_dim=1)
    for layer in ("l1", "l2", "l3"):
        part = SimpleNamespace(
            **{n: case[f"{layer}.{n}"] for n in ("weight", "bias", "lora_A", "lora_B", "merged")}
        )
        B, A, error = compress([(case["alpha"] * part.lora_B.T, part.lora_A.T)], len(part.lora_B))
        assert error == 0.0
        close(part.weight + B @ A, part.merged)
        inner, outer = adapted @ part.lora_A, part.lora_B
        adapted = linear(adapted, part.weight, part.bias) + case["alpha"] * inner @ outer
        merged = linear(merged, part.merged, part.bias)
        if layer != "l3":
            adapted, merged = relu(adapted), relu(merged)
    close(log_softmax(adapted, dim=1), case["logprob"])
    close(log_softmax(merged, dim=1), case["logprob_after_merge"])


def _halfway(*methods: str) -> dict[str, list]:
    """The scalar chain below goes half of the way to 1 in its one link, whatever the method."""
    return {
        f"{method}.{name}": value
        for method in methods
        for name, value in (("W", [[[0.0]], [[0.5]]]), ("loss", [0.5, 0.125]))
    }


@golden(
    "raclora_chain",
    X=[[1.0]],
    Y=[[1.0]],
    W0=[[0.0]],
    sampled_A=[[[1.0]]],
    sampled_B=[[[1.0]]],
    scaling=1.0,
    lr=0.5,
    inner_steps=1,
    links=1,
    f0=0.5,
    G0=[[-1.0]],
    **_halfway("rac_trainB", "rac_trainA", "fixed_trainB", "cola", "full_gd", "projA", "projB"),
)
class TestChain:
    """Chains on linear regression, f(W) = ‖X Wᵀ − Y‖²/2N, through autograd."""

    @staticmethod
    def loss(case: Case, W: Tensor) -> Tensor:
        return (linear(case["X"], W) - case["Y"]).square().sum() / (2 * len(case["X"]))

    def gradient(self, case: Case, W: Tensor) -> Tensor:
        weight = trainable(W)
        return torch.autograd.grad(self.loss(case, weight), weight)[0]

    def descend(self, case: Case, W: Tensor, B: Tensor, A: Tensor, train: str):
        """Plain gradient descent on the factors named in ``train``."""
        for _ in range(int(case["inner_steps"])):
            factors = {"B": trainable(B), "A": trainable(A)}
            weight = W + case["scaling"] * factors["B"] @ factors["A"]
            gradients = torch.autograd.grad(self.loss(case, weight), list(factors.values()))
            B, A = (
                factor - case["lr"] * gradient if name in train else factor
                for (name, factor), gradient in zip(factors.items(), gradients, strict=True)
            )
            B, A = B.detach(), A.detach()
        return B, A

    def check(self, case: Case, method: str, link: int, W: Tensor) -> None:
        close(W, case[f"{method}.W"][link], rtol=1e-9)
        close(self.loss(case, W), case[f"{method}.loss"][link], rtol=1e-9)

    @pytest.mark.parametrize(
        ("method", "train"),
        [("rac_trainB", "B"), ("rac_trainA", "A"), ("fixed_trainB", "B"), ("cola", "AB")],
    )
    def test_factors(self, case: Case, method: str, train: str):
        W, blocks = case["W0"], []
        for link in range(case["links"]):
            self.check(case, method, link, W)
            A = case["sampled_A"][0 if method == "fixed_trainB" else link]
            B = case["sampled_B"][link]
            start = (B, 0 * A) if train == "A" else (0 * B, A)
            B, A = self.descend(case, W, *start, train)
            W = W + case["scaling"] * B @ A
            blocks.append((case["scaling"] * B, A))
        self.check(case, method, case["links"], W)
        B, A, error = compress(blocks, sum(len(A) for _, A in blocks))
        assert error == 0.0
        close(case["W0"] + B @ A, W, rtol=1e-9)

    @pytest.mark.parametrize("method", ["full_gd", "projA", "projB"])
    def test_weights(self, case: Case, method: str):
        W = case["W0"]
        close(self.gradient(case, W), case["G0"], rtol=1e-9)
        for link in range(case["links"]):
            self.check(case, method, link, W)
            steps = int(case["inner_steps"]) if method == "full_gd" else 1
            for _ in range(steps):
                W = W - case["lr"] * self.direction(case, method, link, W)
        self.check(case, method, case["links"], W)

    def direction(self, case: Case, method: str, link: int, W: Tensor) -> Tensor:
        """∇f, or what one factor alone can follow of it."""
        G, B, A = self.gradient(case, W), case["sampled_B"][link], case["sampled_A"][link]
        if method == "projA":
            return tangent_projection(G, torch.zeros(len(W), len(A)).double(), A)
        if method == "projB":
            return tangent_projection(G, B, torch.zeros(B.shape[1], W.shape[1]).double())
        return G
