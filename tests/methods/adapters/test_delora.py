"""DeLoRA: formula, bound, first step; the defects of the released code and of PEFT's version."""

from __future__ import annotations

import dataclasses
from functools import partial

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel, get_peft_model
from torch import nn

from rankwise.core.errors import ModelError, SettingsError
from rankwise.methods.adapters.bridge import base_weight, write_factors
from rankwise.methods.adapters.delora import DeloraConfig
from tests.golden.cases import on_golden_cases
from tests.models.adapters import TARGETS, attach, inputs, layers, train
from tests.models.networks import Network
from tests.models.single_layers import double_linear, wrapped

wrap = partial(wrapped, DeloraConfig)


def dense_change(A, B, strength, A0, B0, norms):
    def term(A, B):
        gains = strength / len(A) / (A.norm(dim=1) * B.norm(dim=0))
        return (B * gains) @ A

    return (term(A, B) - term(A0, B0)) * norms


def relative_change(layer):
    return (layer.get_delta_weight("default").norm() / layer.weight.norm()).item()


def test_norms_are_taken_over_the_outputs_in_either_layout():
    for layout in ("Linear", "Conv1D"):
        for layer in layers(attach("delora", layout=layout)):
            *_, norms = layer.parts("default")
            torch.testing.assert_close(norms, base_weight(layer).norm(dim=0))


def dense_case():
    """A case like the golden ones, by autograd through the dense formula."""
    generator = torch.Generator().manual_seed(4)
    shapes = {"W": (8, 6), "b": (8,), "x": (3, 5, 6), "cotangent": (3, 5, 8)}
    shapes |= {"A": (4, 6), "C": (4, 6), "B": (8, 4), "D": (8, 4)}
    case = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    case["lambda"] = torch.tensor([12.0], dtype=torch.float64)
    leaves = [case[name].clone().requires_grad_() for name in ("A", "B", "lambda")]
    delta = dense_change(*leaves, case["C"], case["D"], case["W"].norm(dim=0))
    y = case["x"] @ (case["W"] + delta).T + case["b"]
    gradients = torch.autograd.grad((y * case["cotangent"]).sum(), leaves)
    grad = dict(zip(("grad_A", "grad_B", "grad_lambda"), gradients, strict=True))
    return {**case, **grad, "r": 4, "y": y, "delta": delta}


@on_golden_cases("delora_official", computed=dense_case())
def test_forward_and_gradients_are_those_of_the_dense_formula(case):
    base = nn.Linear(*case["W"].shape[::-1], bias="b" in case, dtype=torch.float64)
    base.weight.data.copy_(case["W"])
    if "b" in case:
        base.bias.data.copy_(case["b"])
    layer = wrap(base, r=case["r"], delora_lambda=float(case["lambda"]))
    A, B, strength, A0, B0, _ = layer.parts("default")
    for part, name in ((A, "A"), (B, "B"), (A0, "C"), (B0, "D"), (strength, "lambda")):
        part.data.copy_(case[name])
    y = layer(case["x"])
    (y * case["cotangent"]).sum().backward()
    near = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(y, case["y"], **near)
    torch.testing.assert_close(layer.get_delta_weight("default"), case["delta"], **near)
    for part, name in ((A, "grad_A"), (B, "grad_B"), (strength, "grad_lambda")):
        torch.testing.assert_close(part.grad, case[name], **near)


@settings(max_examples=30)
@given(r=st.integers(1, 5), strength=st.floats(1e-3, 50), seed=st.integers(0, 99))
def test_the_change_stays_within_its_bound(r, strength, seed):
    layer = wrap(double_linear(), r=r, delora_lambda=strength)
    generator = torch.Generator().manual_seed(seed)
    A, B, _, A0, B0, norms = layer.parts("default")
    for part in (A, B, A0, B0):
        scale = 10 ** torch.empty(1).uniform_(-4, 4, generator=generator).item()
        part.data.normal_(0, scale, generator=generator)
    bound = strength * norms.max().item() * (1 + 1e-9)
    assert layer.get_delta_weight("default").norm().item() <= 2 * bound
    for part in (A0, B0):
        part.data.zero_()
    assert layer.get_delta_weight("default").norm().item() <= bound


def test_the_bound_holds_at_any_learning_rate_while_the_strength_is_fixed():
    model = attach("delora", delora_lambda=0.5, learn_lambda=False)
    train(model, steps=20, lr=10.0)
    for layer in layers(model):
        *_, strength, _, _, norms = layer.parts("default")
        assert strength.item() == 0.5
        assert layer.get_delta_weight("default").norm() <= 2 * 0.5 * norms.max() * (1 + 1e-5)


def test_scaling_the_directions_changes_nothing():
    layer = wrap(double_linear(), r=3)
    A, B, *_ = layer.parts("default")
    for part in (A, B):
        nn.init.normal_(part)
    expected = layer.get_delta_weight("default").detach()
    A.data.mul_(1e3)
    B.data.mul_(1e-5)
    torch.testing.assert_close(layer.get_delta_weight("default"), expected)


def test_gradients_of_the_directions_are_angular():
    """<∂L/∂aᵢ, aᵢ> = 0 and <∂L/∂bᵢ, bᵢ> = 0, as the change does not depend on their lengths."""
    layer = wrap(double_linear(), r=3)
    A, B, *_ = layer.parts("default")
    layer(torch.randn(5, 6, dtype=torch.float64)).square().sum().backward()
    assert A.grad.norm() > 1e-3
    assert (A.grad * A).sum(dim=1).abs().max() < 1e-12
    assert (B.grad * B).sum(dim=0).abs().max() < 1e-12


def test_strength_and_directions_are_decoupled():
    """∂L/∂λ = <∂L/∂ΔW, ΔW> / λ."""
    layer = wrap(double_linear(), r=3, delora_lambda=4.0)
    A, _, strength, *_ = layer.parts("default")
    nn.init.normal_(A)
    x, cotangent = (torch.randn(5, n, dtype=torch.float64) for n in (6, 8))
    (layer(x) * cotangent).sum().backward()
    inner = ((cotangent.T @ x) * layer.get_delta_weight("default")).sum()
    torch.testing.assert_close(strength.grad, inner.reshape(1) / 4.0)


def first_step(config_class, lr):
    torch.manual_seed(0)
    model = get_peft_model(
        nn.Sequential(nn.Linear(64, 64, bias=False)),
        config_class(r=8, delora_lambda=15, target_modules=["0"]),
    )
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    model(torch.randn(16, 64)).square().mean().backward()
    optimizer.step()
    return relative_change(model.base_model.model[0])


def test_the_first_step_goes_with_the_learning_rate():
    large, small = first_step(DeloraConfig, 1e-3), first_step(DeloraConfig, 1e-5)
    assert large < 0.05
    assert large / small == pytest.approx(100, rel=0.05)


def test_the_first_step_of_peft_jumps_at_any_learning_rate():
    large, small = first_step(peft.DeloraConfig, 1e-3), first_step(peft.DeloraConfig, 1e-5)
    assert small > 0.2
    assert large / small == pytest.approx(1, rel=0.5)


def test_training_on_the_cpu_moves_the_weight_and_not_the_frozen_copies():
    """In the released code the copies share the memory of what trains, so nothing ever changes."""
    model = attach("delora")
    before = [[part.detach().clone() for part in layer.parts("default")] for layer in layers(model)]
    train(model)
    for layer, old in zip(layers(model), before, strict=True):
        new = layer.parts("default")
        assert all(not torch.equal(a, b) for a, b in zip(new[:3], old[:3], strict=True))
        assert all(torch.equal(a, b) for a, b in zip(new[3:], old[3:], strict=True))
        assert relative_change(layer) > 1e-3


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_loaded_copies_share_no_memory_with_what_trains(low_cpu_mem_usage, tmp_path):
    attach("delora").save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(
        Network(), tmp_path, is_trainable=True, low_cpu_mem_usage=low_cpu_mem_usage
    )
    for layer in layers(loaded):
        parts = layer.parts("default")
        assert len({part.untyped_storage().data_ptr() for part in parts}) == len(parts)
    train(loaded)
    assert min(relative_change(layer) for layer in layers(loaded)) > 1e-3


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_norms_come_from_the_file_and_not_from_another_base(low_cpu_mem_usage, tmp_path):
    model = attach("delora")
    train(model)
    model.save_pretrained(tmp_path)
    other = Network()
    nn.init.normal_(other.first.weight)
    loaded = PeftModel.from_pretrained(other, tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
    change, expected = (layers(m)[0].get_delta_weight("default") for m in (loaded, model))
    assert torch.equal(change, expected)


def test_a_zero_column_of_the_weight_gives_no_change_there_and_no_nan():
    base = nn.Linear(6, 8)
    base.weight.data[:, 2] = 0
    layer = wrap(base, r=3)
    nn.init.normal_(layer.parts("default")[0])
    change = layer.get_delta_weight("default")
    assert torch.isfinite(change).all()
    assert not change[:, 2].any()


def test_a_direction_of_zeros_gives_neither_nan_nor_infinite_gradients():
    layer = wrap(nn.Linear(6, 8), r=3)
    A, B, *_ = layer.parts("default")
    A.data[0] = 0
    B.data[:, 1] = 0
    layer(torch.randn(5, 6)).square().sum().backward()
    assert torch.isfinite(A.grad).all()
    assert torch.isfinite(B.grad).all()


def test_in_bfloat16_the_rounding_errors_are_those_of_the_change():
    """The two terms are some twenty times the change; as products they would drown it."""
    model = attach("delora", delora_lambda=15)
    train(model, steps=1, lr=1e-3)
    layer = layers(model)[0]
    x = torch.eye(12)
    exact = layer._change("default", x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = layer._change("default", x).float()
    assert (rough - exact).norm() < 2e-2 * exact.norm()


@pytest.mark.parametrize("strength", [12, 12.0])
def test_integer_strengths_train_as_well(strength):
    model = attach("delora", delora_lambda=strength, lambda_pattern={"second": 3})
    assert [layer.parts("default")[2].item() for layer in layers(model)] == [12.0, 3.0]
    train(model)
    assert all(layer.parts("default")[2].item() not in (12.0, 3.0) for layer in layers(model))


def test_a_fixed_strength_stays_fixed_when_switched_and_loaded(tmp_path):
    model = attach("delora", learn_lambda=False)
    model.add_adapter("other", DeloraConfig(r=2, target_modules=TARGETS))
    model.set_adapter("other")
    model.set_adapter("default")
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(Network(), tmp_path, is_trainable=True)
    for layer in (*layers(model), *layers(loaded)):
        assert [p.requires_grad for p in layer.parts("default")[:3]] == [True, True, False]


def test_written_directions_leave_the_change_at_zero():
    model = attach("delora")
    train(model)
    layer = layers(model)[0]
    B, A = torch.linalg.qr(torch.randn(10, 3)).Q, torch.linalg.qr(torch.randn(12, 3)).Q.T
    write_factors(layer, "default", B, torch.diag(torch.tensor([3.0, 2.0, 1.0])), A)
    assert not layer.get_delta_weight("default").any()
    right, left, *_, norms = layer.parts("default")
    assert torch.equal(left, B)
    torch.testing.assert_close(right.norm(dim=-1), torch.ones(3))
    # What moves is B̂ Â diag(n): its rows lie along those of A.
    torch.testing.assert_close(nn.functional.normalize(right * norms, dim=-1), A)
    train(model, steps=1)
    assert relative_change(layer) > 1e-3


def test_a_direction_in_columns_that_are_zero_is_refused():
    base = Network()
    with torch.no_grad():
        base.first.weight[:, :2] = 0
    model = get_peft_model(base, DeloraConfig(r=2, target_modules=["first"]))
    layer = layers(model)[0]
    B, A = torch.linalg.qr(torch.randn(10, 2)).Q, torch.eye(12)[[0, 5]]
    with pytest.raises(ModelError, match=r"1 of the directions lie in columns .* zero or tiny"):
        write_factors(layer, "default", B, torch.eye(2), A)
    write_factors(layer, "default", B, torch.eye(2), torch.eye(12)[[3, 5]])
    assert not layer.get_delta_weight("default").any()


def test_every_field_of_pefts_config_is_taken_with_its_default():
    theirs = {field.name: field.default for field in dataclasses.fields(peft.DeloraConfig)}
    ours = {field.name: field.default for field in dataclasses.fields(DeloraConfig)}
    assert {name: ours[name] for name in theirs} == theirs
    assert ours.keys() - theirs.keys() == {
        "learn_lambda",
        "target_parameters",
        "trainable_token_indices",
        "weight_norms",
        "normalise",
        "residual_lambda",
    }


def test_without_init_weights_the_start_is_that_of_peft():
    options = {"r": 3, "target_modules": TARGETS, "init_weights": False}
    outputs = []
    for config_class in (DeloraConfig, peft.DeloraConfig):
        torch.manual_seed(3)
        outputs.append(get_peft_model(Network(), config_class(**options))(inputs()))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(outputs[0], Network()(inputs()), atol=1e-2)


@pytest.mark.parametrize("strength", [0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("place", ["delora_lambda", "lambda_pattern"])
def test_a_strength_that_is_not_positive_is_refused(strength, place):
    value = strength if place == "delora_lambda" else {"first": strength}
    with pytest.raises(SettingsError, match=f"must be positive and finite, got {strength}"):
        DeloraConfig(target_modules=TARGETS, **{place: value})


def test_a_rank_below_one_is_refused():
    with pytest.raises(ModelError, match="r must be at least 1, got 0 for second"):
        attach("delora", rank_pattern={"second": 0})
