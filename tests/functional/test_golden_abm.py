"""Numbers of ABM-LoRA from outside: its golden files, at the tolerance that their README states."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear

from rankwise.functional import (
    boundary_layer_weights,
    boundary_loss,
    information_loss,
    sign_agreement,
    tangent_projection,
)
from tests.golden.cases import Case, close, golden, trainable


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
