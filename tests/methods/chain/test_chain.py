"""A chain: what a block begins from, what a fold keeps, and what cannot be chained."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

from rankwise.core.errors import ChainError, ModelError
from rankwise.methods.adapters import bridge
from rankwise.methods.chain.chain import Chain
from tests.models.chains import (
    NAMES,
    base_weights,
    build,
    layers,
    optimizer_of,
    outputs,
    same,
    train,
    trained,
)

SIDES = ("left", "right", "both")
KINDS = ("gaussian", "orthonormal", "kaiming", "selector")


def pair(layer):
    return layer.lora_B["default"].weight, layer.lora_A["default"].weight


# --- how a block begins ------------------------------------------------------------------------


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


# --- a fold ------------------------------------------------------------------------------------


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
    assert same(base_weights(model), before)
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


# --- what cannot be chained --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 6}, r"r must be between 1 and 5 \(the output side of .*second\), got 6"),
        ({"use_dora": True}, "use plain LoRA"),
        ({"lora_bias": True}, "set lora_bias=False"),
        ({"init_lora_weights": "pissa"}, "'pissa' changes the base weights"),
        ({"lora_alpha": 0}, "'default' must be positive and finite, got 0"),
        ({"lora_alpha": -4}, "'default' must be positive and finite, got -2"),
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
