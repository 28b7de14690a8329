"""Numbers of RAC-LoRA from outside: its golden files, at the tolerance that their README states."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, log_softmax, relu

from rankwise.functional import compress, tangent_projection
from tests.golden.cases import Case, close, golden, trainable


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
