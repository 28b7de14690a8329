"""LoRA-XS: the start from the weight, the core that trains, what is refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from peft import get_peft_model
from torch import nn

from rankwise.core.errors import ModelError, SettingsError
from rankwise.methods.adapters.bridge import base_weight, write_factors
from rankwise.methods.adapters.lora_xs import LoraXSConfig, correct_core_gradients
from tests.golden.cases import on_golden_cases
from tests.models.adapters import TARGETS, attach, inputs, layers, train
from tests.models.networks import Network
from tests.models.single_layers import double_linear, wrapped

wrap = partial(wrapped, LoraXSConfig)


@pytest.mark.parametrize("layout", ["Linear", "Conv1D"])
def test_frozen_factors_are_the_top_singular_vectors_of_the_weight(layout):
    for layer in layers(attach("lora_xs", layout=layout, dtype=torch.float64)):
        _, B, A = layer.parts("default")
        U, S, Vh = torch.linalg.svd(base_weight(layer), full_matrices=False)
        torch.testing.assert_close(B.T @ B, torch.eye(3, dtype=torch.float64))
        torch.testing.assert_close(A.norm(dim=1), S[:3])
        torch.testing.assert_close(B @ A, U[:, :3] @ S[:3].diag() @ Vh[:3])


def test_the_core_starts_as_noise_of_size_1e_5():
    core, _, _ = wrap(nn.Linear(40, 40), r=40).parts("default")
    assert core.std().item() == pytest.approx(1e-5, rel=0.1)
    assert core.mean().abs().item() < 1e-6


def test_every_layer_and_every_seed_draws_its_own_core():
    cores = [
        layer.parts("default")[0].detach()
        for seed in (0, 1)
        for layer in layers(attach("lora_xs", seed=seed))
    ]
    assert len({tuple(core.flatten().tolist()) for core in cores}) == 4


def test_the_start_depends_on_the_seed_alone_and_leaves_the_random_state():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = get_peft_model(Network(), LoraXSConfig(r=3, target_modules=TARGETS))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    second = get_peft_model(Network(), LoraXSConfig(r=3, target_modules=TARGETS))
    assert torch.equal(first(inputs()), second(inputs()))


def test_without_init_weights_the_factors_are_random_orthonormal():
    layer = wrap(double_linear(), r=4, init_weights=False)
    core, B, A = layer.parts("default")
    # Drawn in float32: a seed gives the same start for every base.
    torch.testing.assert_close(B.T @ B, torch.eye(4, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(A @ A.T, torch.eye(4, dtype=torch.float64), atol=1e-6, rtol=0)
    assert 0 < core.abs().max().item() < 1e-4


@pytest.mark.parametrize(("alpha", "scaling"), [(None, 1.0), (8, 2.0), (2.0, 0.5)])
def test_alpha_over_r_is_the_scaling(alpha, scaling):
    layer = wrap(double_linear(), r=4, lora_alpha=alpha)
    R, B, A = layer.parts("default")
    torch.testing.assert_close(layer.get_delta_weight("default"), scaling * B @ R @ A)


def dense_case():
    """A case like the golden ones; g_R = s Bᵀ g Aᵀ (LoRA-SB, arXiv 2411.19557, Lemma 2)."""
    generator = torch.Generator().manual_seed(4)
    shapes = {"W": (8, 6), "b": (8,), "x": (5, 6), "cotangent": (5, 8)}
    shapes |= {"B": (8, 3), "R": (3, 3), "A": (3, 6)}
    case = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    delta = 2.0 * case["B"] @ case["R"] @ case["A"]
    y = case["x"] @ (case["W"] + delta).T + case["b"]
    grad_R = 2.0 * case["B"].T @ (case["cotangent"].T @ case["x"]) @ case["A"].T
    return {**case, "r": 3, "lora_alpha": 6, "y": y, "delta": delta, "grad_R": grad_R}


@on_golden_cases("lorasb_forward", computed=dense_case())
def test_forward_and_gradient_are_those_of_the_dense_formula(case):
    base = nn.Linear(*case["W"].shape[::-1], bias="b" in case, dtype=torch.float64)
    base.weight.data.copy_(case["W"])
    if "b" in case:
        base.bias.data.copy_(case["b"])
    layer = wrap(base, r=case["r"], lora_alpha=case["lora_alpha"])
    for part, name in zip(layer.parts("default"), ("R", "B", "A"), strict=True):
        part.data.copy_(case[name])
    y = layer(case["x"])
    (y * case["cotangent"]).sum().backward()
    near = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(y, case["y"], **near)
    torch.testing.assert_close(layer.get_delta_weight("default"), case["delta"], **near)
    torch.testing.assert_close(layer.parts("default")[0].grad, case["grad_R"], **near)


def test_backward_keeps_no_inputs():
    layer = wrap(nn.Linear(50, 40), r=2)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(torch.randn(64, 50))
    assert not [t for t in kept if t.shape[0] == 64 and t.numel() > 64 * 2]


def test_written_factors_are_the_change_at_any_scaling():
    layer = wrap(double_linear(), r=3, lora_alpha=7)
    B = torch.linalg.qr(torch.randn(8, 3, dtype=torch.float64)).Q
    A = torch.linalg.qr(torch.randn(6, 3, dtype=torch.float64)).Q.T
    R = torch.diag(torch.tensor([3.0, 2.0, 0.0], dtype=torch.float64))
    write_factors(layer, "default", B, R, A)
    torch.testing.assert_close(layer.get_delta_weight("default"), B @ R @ A)


def test_averaged_cores_are_the_averaged_change():
    """mean(B Rᵢ A) = B mean(Rᵢ) A: federated averaging of the core alone is exact."""
    layer = wrap(double_linear(), r=3)
    R, _, _ = layer.parts("default")
    cores = torch.randn(4, 3, 3, dtype=torch.float64)
    changes = []
    for core in cores:
        R.data.copy_(core)
        changes.append(layer.get_delta_weight("default").detach())
    R.data.copy_(cores.mean(dim=0))
    torch.testing.assert_close(layer.get_delta_weight("default"), torch.stack(changes).mean(dim=0))


def test_a_small_learning_rate_moves_the_core_of_a_bfloat16_base():
    model = attach("lora_xs", dtype=torch.bfloat16)
    for layer in layers(model):
        layer.parts("default")[0].data.fill_(1.0)
    train(model, steps=1, lr=1e-4)
    for layer in layers(model):
        moved = (layer.parts("default")[0] - 1.0).abs()
        torch.testing.assert_close(moved, torch.full_like(moved, 1e-4), rtol=0.02, atol=0)


@pytest.mark.parametrize("r", [0, -1, 65])
def test_a_rank_beyond_the_smaller_side_is_refused(r):
    model = nn.ModuleDict({"q_proj": nn.Linear(64, 128)})
    message = rf"r must be between 1 and 64 \(the smaller side of q_proj\), got {r}"
    with pytest.raises(ModelError, match=message):
        get_peft_model(model, LoraXSConfig(r=r, target_modules=["q_proj"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_alpha": 0}, "lora_alpha must be positive and finite, got 0"),
        ({"lora_alpha": float("nan")}, "lora_alpha must be positive and finite, got nan"),
        ({"layers_pattern": "layers"}, "no effect without layers_to_transform"),
        (
            {"target_modules": "all-linear", "layers_to_transform": [1]},
            "layers_to_transform has no effect on target_modules='all-linear'",
        ),
    ],
)
def test_options_without_effect_are_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        LoraXSConfig(**options)


def test_blocks_are_chosen_by_number():
    blocks = nn.Module()
    blocks.layers = nn.ModuleList(nn.ModuleDict({"q": nn.Linear(4, 4)}) for _ in range(3))
    config = LoraXSConfig(
        r=2, target_modules=["q"], layers_to_transform=[1], layers_pattern="layers"
    )
    model = get_peft_model(blocks, config)
    assert model.base_model.targeted_module_names == ["layers.1.q"]


# LoRA-SB's Theorems 3 and 5 ----------------------------------------


def stepped(alpha, *, is_corrected):
    """How far one step of SGD moves the weight, from one start at a scaling of alpha / 2."""
    layer = wrap(double_linear(), r=2, lora_alpha=alpha)
    R, B, A = layer.parts("default")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        R.zero_()
        for part in (B, A):
            part.copy_(torch.randn(part.shape, generator=generator))
    before = layer.get_delta_weight("default").detach().clone()
    optimizer = torch.optim.SGD([R], lr=0.1)
    if is_corrected:
        optimizer.register_step_pre_hook(lambda *_: correct_core_gradients(layer))
    x = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    layer(x).square().sum().backward()
    optimizer.step()
    weight = layer.weight
    gradient = 2 * nn.functional.linear(x, weight, layer.bias).T @ x
    return layer.get_delta_weight("default").detach() - before, gradient, B, A


@pytest.mark.parametrize("alpha", [0.2, 2.0, 20.0])
def test_a_corrected_step_is_the_projected_gradient_at_any_scaling(alpha):
    step, gradient, B, A = stepped(alpha, is_corrected=True)
    B, A = B.double(), A.double()
    projected = B @ torch.linalg.pinv(B) @ gradient @ torch.linalg.pinv(A) @ A
    torch.testing.assert_close(step.double(), -0.1 * projected, rtol=1e-4, atol=1e-5)


def test_an_uncorrected_step_depends_on_the_scaling():
    short, long = (stepped(alpha, is_corrected=False)[0].norm() for alpha in (2.0, 20.0))
    assert long / short == pytest.approx(100, rel=1e-3)
