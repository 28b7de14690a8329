"""A chain: what a block begins from, what a fold keeps, what is left at the end."""

from __future__ import annotations

import json

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from rankwise.core.errors import ChainError, ModelError, SettingsError
from rankwise.methods.adapters import bridge
from rankwise.methods.chain.chain import Chain
from tests.golden.cases import on_golden_cases
from tests.models.chains import (
    NAMES,
    base_weights,
    build,
    chained,
    layers,
    optimizer_of,
    outputs,
    train,
    trained,
)

SIDES = ("left", "right", "both")
KINDS = ("gaussian", "orthonormal", "kaiming", "selector")


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def pair(layer):
    return layer.lora_B["default"].weight, layer.lora_A["default"].weight


# --- how a block begins --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", SIDES)
def test_making_a_chain_leaves_the_outputs_exactly_as_they_are(side, kind):
    # The released code accepts gaussian/gaussian and zero/zero starts; here there are none.
    model = build()
    before = outputs(model)
    Chain(model, side=side, sketch=kind)
    assert torch.equal(outputs(model), before)
    assert all(bool(B.any()) != bool(A.any()) for B, A in map(pair, layers(model).values()))


@pytest.mark.parametrize(
    ("side", "zero", "trains"),
    [("left", "A", {"A"}), ("right", "B", {"B"}), ("both", "B", {"A", "B"})],
)
def test_the_side_says_which_factor_is_sketched_which_is_zero_and_which_train(side, zero, trains):
    # The released script trains both factors under the name RAC-LoRA, which is COLA.
    model = build()
    Chain(model, side=side)
    model.set_adapter("default")  # PEFT thaws an adapter here
    for layer in layers(model).values():
        B, A = pair(layer)
        assert not (A if zero == "A" else B).any()
        assert {name for name, factor in (("B", B), ("A", A)) if factor.requires_grad} == trains
    assert len(trained(model)) == 2 * len(trains)


def test_training_a_block_changes_its_trained_factor_and_nothing_else():
    model = build()
    Chain(model, side="left")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, optimizer_of(model))
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {f"{name}.lora_A.default.weight" for name in NAMES}


def test_a_chain_leaves_the_global_random_state_alone():
    state = torch.get_rng_state()
    model = build()
    chain = Chain(model)
    chain.fold()
    chain.finish(final_rank=1)
    assert torch.equal(torch.get_rng_state(), state)


# --- a block under one gradient step: the method that the paper analyses -------------------------


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


# --- a fold --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", SIDES)
def test_a_fold_keeps_the_outputs(side, kind):
    model = build()
    chain = Chain(model, side=side, sketch=kind)
    optimizer = optimizer_of(model)
    for _ in range(3):
        train(model, optimizer)
        before = outputs(model)
        chain.fold(optimizer)
        torch.testing.assert_close(outputs(model), before, rtol=1e-6, atol=1e-6)
    assert chain.folds == 3


@settings(max_examples=25)
@given(
    blocks=st.integers(1, 4),
    side=st.sampled_from(SIDES),
    alpha=st.sampled_from([0.5, 2, 7]),
    seed=st.integers(0, 2**32),
)
def test_what_the_chain_learned_is_the_sum_of_its_blocks(blocks, side, alpha, seed):
    generator = torch.Generator().manual_seed(seed)
    model = build(torch.float64, lora_alpha=alpha)
    before = base_weights(model)
    chain = Chain(model, side=side, seed=seed)
    learned = dict.fromkeys(layers(model), 0)
    for block in range(blocks):
        if block:
            chain.fold()
        for parameter in trained(model):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
        for name, layer in layers(model).items():
            B, A = (factor.detach() for factor in pair(layer))
            learned[name] = learned[name] + alpha / 2 * B @ A
    for name, layer in layers(model).items():
        B, A = bridge.factors(layer, "default")
        torch.testing.assert_close(B @ A, learned[name])
        torch.testing.assert_close(bridge.delta(layer, "default"), learned[name])
    chain.finish()
    assert equal(base_weights(model), before)
    for name, layer in layers(model).items():
        torch.testing.assert_close(bridge.delta(layer, "default"), learned[name])


def test_after_200_folds_a_bfloat16_weight_is_the_rounded_sum():
    model = build(torch.bfloat16)
    layer = layers(model)[NAMES[0]]
    exact, naive = layer.weight.detach().double(), layer.weight.detach().clone()
    chain = Chain(model, side="left")
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        B, A = (factor.detach() for factor in pair(layer))
        A.copy_(2e-3 * torch.randn(A.shape, generator=generator) + 2e-4)
        change = 3 * B.double() @ A.double()
        exact, naive = exact + change, naive + change.bfloat16()
        chain.fold()
    assert torch.equal(layer.weight, exact.bfloat16())
    assert not torch.equal(naive, exact.bfloat16())


def test_a_step_with_zero_gradient_right_after_a_reset_moves_nothing():
    # In the released code the moments survive a merge: this step moves A by a full learning rate.
    model = build()
    chain = Chain(model, side="left")
    optimizer = torch.optim.AdamW(trained(model), lr=0.05, weight_decay=0)
    train(model, optimizer)
    chain.fold(optimizer)
    assert all(parameter.grad is None for parameter in trained(model))
    for parameter in trained(model):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert not any(parameter.any() for parameter in trained(model))


def test_without_the_optimizer_its_moments_go_on_into_the_next_block():
    model = build()
    chain = Chain(model, side="left")
    optimizer = torch.optim.AdamW(trained(model), lr=0.05, weight_decay=0)
    train(model, optimizer)
    chain.fold()
    for parameter in trained(model):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert all(parameter.any() for parameter in trained(model))


def test_a_reset_reaches_the_optimizer_inside_accelerates_wrapper():
    model = build()
    chain = Chain(model, side="both")
    optimizer = Accelerator(cpu=True).prepare(optimizer_of(model))
    train(model, optimizer)
    assert len(optimizer.optimizer.state) == 4
    chain.fold(optimizer)
    assert not optimizer.optimizer.state


def test_a_fold_keeps_the_state_of_what_is_not_of_the_chain():
    model = build(modules_to_save=["second"], target_modules=["first"])
    chain = Chain(model)
    optimizer = optimizer_of(model)
    train(model, optimizer)
    chain.fold(optimizer)
    (layer,) = layers(model).values()
    assert set(optimizer.state) == set(trained(model)) - {pair(layer)[1]} != set()


def test_an_optimizer_built_before_the_chain_is_refused():
    model = build()
    optimizer = optimizer_of(model)
    chain = Chain(model, side="left")
    with pytest.raises(ChainError, match="holds frozen sketches of the chain: build it after"):
        chain.fold(optimizer)
    elsewhere = torch.optim.SGD([nn.Parameter(torch.ones(1))])
    with pytest.raises(ChainError, match="lacks trained factors of the chain: build it after"):
        chain.fold(elsewhere)
    assert chain.folds == 0


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", SIDES)
def test_at_the_end_the_base_is_as_it_was_and_one_lora_has_learned_everything(side, dtype):
    model = build(dtype)
    before = base_weights(model)
    chain = chained(model, side=side)
    assert not equal(base_weights(model), before)
    learned = outputs(model)
    report = chain.finish()
    assert equal(base_weights(model), before)
    tolerance = (
        {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.1}
    )
    torch.testing.assert_close(outputs(model), learned, **tolerance)
    assert (report.blocks, report.rank, report.errors) == (4, 8, {})
    model.set_adapter("default")  # PEFT would freeze again what it is told to keep frozen
    for layer in layers(model).values():
        assert type(layer).__name__ == "Linear"
        assert (layer.r["default"], layer.scaling["default"]) == (8, 1.0)
        assert all(factor.requires_grad for factor in pair(layer))


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to:UserWarning")
def test_the_finished_lora_saves_and_loads_as_plain_peft(tmp_path):
    model = build(use_rslora=True)
    chained(model).finish()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(build().unload(), tmp_path)
    assert type(loaded.peft_config["default"]) is LoraConfig
    assert torch.equal(outputs(loaded), outputs(model))
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (saved["peft_type"], saved["r"], saved["lora_alpha"]) == ("LORA", 8, 8)


def test_a_chain_without_folds_ends_as_a_lora_of_its_own_rank():
    model = build()
    chain = chained(model, folds=0)
    learned = outputs(model)
    assert chain.finish().rank == 2
    torch.testing.assert_close(outputs(model), learned, rtol=1e-6, atol=1e-6)


def test_a_last_block_without_training_is_left_out():
    model = build()
    chain = chained(model, folds=2)
    chain.fold()
    assert chain.finish().rank == 6


def test_layers_keep_their_own_rank_and_scaling_until_the_end():
    model = build(rank_pattern={"second": 1}, alpha_pattern={"second": 5})
    chain = chained(model, folds=1)
    first, second = layers(model).values()
    assert (len(pair(first)[1]), len(pair(second)[1])) == (2, 1)
    learned = outputs(model)
    assert chain.finish().rank == 4
    torch.testing.assert_close(outputs(model), learned, rtol=1e-5, atol=1e-5)
    assert model.peft_config["default"].rank_pattern == {}


def test_a_final_rank_compresses_and_says_by_how_much_it_errs():
    model = build()
    chain = chained(model)
    whole = [bridge.delta(layer, "default") for layer in layers(model).values()]
    report = chain.finish(final_rank=2)
    assert report.rank == 2
    for (name, layer), change in zip(layers(model).items(), whole, strict=True):
        lost = (bridge.delta(layer, "default").detach() - change).norm() / change.norm()
        assert report.errors[name] == pytest.approx(float(lost), rel=1e-4)
        assert 0.001 < report.errors[name] < 1


def test_a_final_rank_above_what_was_learned_compresses_nothing():
    model = build()
    report = chained(model, folds=1).finish(final_rank=64)
    assert (report.rank, report.errors) == (4, {})


def test_the_base_is_restored_also_where_a_factor_is_not_finite():
    model = build()
    before = base_weights(model)
    chain = chained(model, folds=1)
    trained(model)[0].data.fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite"):
        chain.finish(final_rank=1)
    assert equal(base_weights(model), before)
    assert not chain.is_open


def test_a_final_rank_below_1_is_refused():
    chain = Chain(build())
    with pytest.raises(SettingsError, match="final_rank must be at least 1, got 0"):
        chain.finish(final_rank=0)
    assert chain.is_open


def test_as_a_context_manager_a_chain_ends_also_by_an_exception():
    model = build()
    before = base_weights(model)
    with pytest.raises(KeyboardInterrupt), chained(model) as chain:
        raise KeyboardInterrupt
    assert equal(base_weights(model), before)
    assert not chain.is_open


def test_a_chain_that_is_over_refuses_to_go_on(tmp_path):
    model = build()
    chain = Chain(model)
    chain.finish()
    for action in (chain.fold, chain.finish, lambda: chain.save(tmp_path), lambda: chain.folds):
        with pytest.raises(
            ChainError, match=r"chain of adapter 'default' is over .*make a new one"
        ):
            action()


def test_a_new_chain_begins_with_what_the_adapter_has_learned():
    model = build()
    chained(model, folds=1).finish()
    learned, before = outputs(model), base_weights(model)
    chain = Chain(model)
    torch.testing.assert_close(outputs(model), learned, rtol=1e-5, atol=1e-5)
    assert chain.folds == 1
    train(model, optimizer_of(model))
    chain.finish()
    assert model.peft_config["default"].r == 8
    assert equal(base_weights(model), before)


def test_an_adapter_that_an_init_has_set_becomes_the_first_block():
    model = build(init_lora_weights=False)
    learned = outputs(model)
    assert not torch.allclose(learned, outputs(build()))
    chain = Chain(model, side="right")
    torch.testing.assert_close(outputs(model), learned, rtol=1e-5, atol=1e-5)
    assert (chain.folds, chain.finish().rank) == (1, 2)
    torch.testing.assert_close(outputs(model), learned, rtol=1e-5, atol=1e-5)


def test_the_end_of_a_chain_that_is_over_leaves_the_next_one_alone():
    model = build()
    with chained(model, folds=1) as first:
        first.finish()
        second = Chain(model)
        assert not first.is_open
    assert second.is_open
    assert second.folds == 1
    second.finish()


# --- what cannot be chained ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 6}, r"r must be between 1 and 5 \(the output side of .*second\), got 6"),
        ({"use_dora": True}, "use plain LoRA"),
        ({"lora_bias": True}, "set lora_bias=False"),
        ({"init_lora_weights": "pissa"}, "'pissa' changes the base weights"),
    ],
)
def test_an_adapter_that_cannot_be_chained_is_refused(config, message):
    with pytest.raises(ModelError, match=message):
        Chain(build(**config))


def test_a_rank_above_the_input_side_names_that_side():
    model = get_peft_model(nn.Sequential(nn.Linear(3, 9)), LoraConfig(r=4, target_modules=["0"]))
    with pytest.raises(ModelError, match=r"between 1 and 3 \(the input side of .*\), got 4"):
        Chain(model)


def test_a_model_without_the_adapter_is_refused():
    with pytest.raises(ModelError, match="no layer of PeftModel carries an adapter named 'other'"):
        Chain(build(), adapter_name="other")


@pytest.mark.parametrize(
    "layer", [nn.Embedding(9, 4), nn.Conv1d(4, 4, 2), nn.MultiheadAttention(4, 1)]
)
def test_a_layer_that_is_not_linear_is_refused_by_name(layer):
    model = get_peft_model(nn.Sequential(layer), LoraConfig(r=2, target_modules=["0"]))
    kind = type(layer).__name__
    with pytest.raises(ModelError, match=rf"model\.0 is a {kind} over {kind} with a weight"):
        Chain(model)


def test_a_quantised_weight_is_refused_by_name():
    model = build()
    codes = nn.Parameter(torch.zeros(6, 7, dtype=torch.int8), requires_grad=False)
    layers(model)[NAMES[0]].get_base_layer().weight = codes
    with pytest.raises(
        ModelError, match=r"first is a Linear over Linear with a weight of torch.int8.*quant"
    ):
        Chain(model)


def test_a_shared_weight_is_refused():
    network = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9, bias=False))
    network[1].weight = network[0].weight
    model = get_peft_model(network, LoraConfig(r=2, target_modules=["1"]))
    with pytest.raises(ModelError, match=r"model\.1 shares its weight with another module"):
        Chain(model)


def test_a_base_weight_that_trains_itself_is_refused():
    model = build()
    layers(model)[NAMES[0]].get_base_layer().weight.requires_grad_(True)
    with pytest.raises(ModelError, match="first is trained itself: freeze it before the chain"):
        Chain(model)


def test_a_second_chain_on_an_open_one_is_refused():
    model = build()
    chain = Chain(model)
    with pytest.raises(ModelError, match="got ChainConfig"):
        Chain(model)
    assert chain.is_open
