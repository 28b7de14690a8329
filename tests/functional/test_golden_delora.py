"""Numbers of DeLoRA from outside: its golden files, at the tolerance that their README states."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn.functional import linear

from rankwise.functional import delora_delta
from rankwise.functional.delora import delora_gains
from tests.golden.cases import Case, close, golden, trainable


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
