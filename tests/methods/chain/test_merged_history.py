"""Everything that PEFT offers to do with an adapter whose chain is open: right, or refused."""

import copy
import math
import pickle
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel
from torch import nn

from rankwise.core.errors import ChainError
from rankwise.methods.adapters import bridge
from rankwise.methods.chain.layer import largest_magnitude
from tests.models.chains import (
    NAMES,
    base_weights,
    build,
    chained,
    inputs,
    layers,
    outputs,
    trained,
)

SECOND = {"r": 2, "target_modules": ["first", "second"], "init_lora_weights": False}


@pytest.fixture
def model():
    return build()


def with_second_adapter(model):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        torch.manual_seed(0)
        model.add_adapter("other", LoraConfig(**SECOND))
    return model


def test_with_the_adapter_disabled_the_model_is_the_pretrained_one(model):
    before = outputs(model)
    chained(model)
    learned = outputs(model)
    with model.disable_adapter():
        assert torch.equal(outputs(model), before)
    assert torch.equal(outputs(model), learned)
    assert not torch.allclose(learned, before)


def test_a_reference_between_forward_and_backward_leaves_the_gradient_right(model):
    # As in DPO: autograd holds the folded weight while the reference runs with the pretrained one.
    chained(model)
    x = inputs().requires_grad_()
    model(x)["logits"].sum().backward()
    expected, x.grad = x.grad, None
    loss = model(x)["logits"].sum()
    with torch.no_grad(), model.disable_adapter():
        model(x)
    loss.backward()
    assert torch.equal(x.grad, expected)


def test_another_adapter_works_beside_the_pretrained_weights(model):
    expected = outputs_of_other(build())
    with_second_adapter(model)
    chained(model)
    learned = outputs(model)
    model.set_adapter("other")
    assert torch.equal(outputs(model), expected)
    model.set_adapter("default")
    assert torch.equal(outputs(model), learned)


def outputs_of_other(model):
    with_second_adapter(model).set_adapter("other")
    return outputs(model)


def test_switching_there_and_back_leaves_the_sketch_frozen(model):
    with_second_adapter(model)
    chained(model, side="left")
    model.set_adapter("other")
    model.set_adapter("default")
    assert {id(p) for p in trained(model)} == {
        id(layer.lora_A["default"].weight) for layer in layers(model).values()
    }


def test_what_the_adapter_says_of_itself_includes_its_history(model):
    before = base_weights(model)
    chain = chained(model)
    said = [bridge.delta(layer, "default") for layer in layers(model).values()]
    products = [torch.mm(*bridge.factors(layer, "default")) for layer in layers(model).values()]
    torch.testing.assert_close(products, said)
    chain.fold()
    for layer, W0, change in zip(layers(model).values(), before, said, strict=True):
        folded = bridge.base_weight(layer) - (W0.T if layer.fan_in_fan_out else W0)
        torch.testing.assert_close(folded, change, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda model: model.merge_adapter(), "cannot merge while the chain"),
        (lambda model: model.merge_adapter(safe_merge=True), "cannot merge while the chain"),
        (lambda model: model.merge_and_unload(), "cannot unload while the chain"),
        (lambda model: model.unload(), "cannot unload while the chain"),
        (lambda model: model.add_adapter("new", LoraConfig(**SECOND)), "cannot add adapter 'new'"),
        (
            lambda model: model.add_weighted_adapter(
                ["other", "default"], [1.0, 1.0], "mixture", combination_type="linear"
            ),
            "cannot add adapter 'mixture'",
        ),
        (
            lambda model: bridge.factors(layers(model)[NAMES[0]], "other"),
            "cannot give the factors of adapter 'other'",
        ),
        (
            lambda model: bridge.write_factors(
                layers(model)[NAMES[0]], "default", torch.eye(6, 2), torch.eye(2), torch.eye(2, 7)
            ),
            "cannot initialise adapter 'default'",
        ),
    ],
)
def test_what_cannot_be_right_is_refused_and_changes_nothing(model, action, message):
    with_second_adapter(model)
    before = base_weights(model)
    chain = chained(model)
    model.eval()
    learned = outputs(model)
    with pytest.raises(ChainError, match=rf"{message}.*\(3 blocks.*\): finish the chain first"):
        action(model)
    assert torch.equal(outputs(model), learned)
    chain.finish()
    assert torch.equal(base_weights(model)[0], before[0])


def test_adapters_mixed_within_a_batch_are_refused(model):
    chained(model)
    with pytest.raises(ChainError, match="cannot mix adapters within a batch while the chain"):
        model.eval()(inputs(), adapter_names=["default"] * 8 + ["__base__"])


def test_deleting_the_adapter_takes_its_history_along(model):
    before, first = outputs(model), base_weights(model)
    with_second_adapter(model)
    chain = chained(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Adapter default was active")
        model.delete_adapter("default")
    assert not chain.is_open
    with model.disable_adapter():
        assert torch.equal(outputs(model), before)
    unloaded = model.unload()
    assert torch.equal(unloaded.first.weight, first[0])


def test_deleting_another_adapter_leaves_the_chain_open(model):
    with_second_adapter(model)
    chain = chained(model)
    learned = outputs(model)
    model.delete_adapter("other")
    assert torch.equal(outputs(model), learned)
    chain.fold()


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_a_copy_takes_its_own_chain_along(model, duplicate):
    before = outputs(model)
    chain = chained(model)
    learned = outputs(model)
    twin = duplicate(model)
    twin.peft_config["default"].chain.fold()
    with twin.disable_adapter():
        assert torch.equal(outputs(twin), before)
    report = twin.peft_config["default"].chain.finish()
    torch.testing.assert_close(outputs(twin), learned, rtol=1e-5, atol=1e-5)
    assert isinstance(twin, PeftModel)
    assert (report.blocks, chain.folds) == (5, 3)
    assert torch.equal(outputs(model), learned)


def test_the_pretrained_weights_do_not_follow_the_model_to_another_dtype_or_device(model):
    before = base_weights(model)
    chained(model)
    model.to("meta")
    for layer, W0 in zip(layers(model).values(), before, strict=True):
        assert torch.equal(layer.history.base, W0)


def test_an_exception_in_a_disabled_forward_leaves_the_folded_weight_in_place(model):
    chained(model)
    learned = outputs(model)
    with pytest.raises(RuntimeError), model.disable_adapter():
        model(torch.ones(2, 3))
    assert torch.equal(outputs(model), learned)
    assert all(type(layer.weight) is nn.Parameter for layer in layers(model).values())


@pytest.mark.parametrize(
    "change", [lambda layer: layer.scale_layer(2), lambda layer: layer.set_scale("default", 2)]
)
def test_a_scaling_that_reaches_the_open_block_alone_is_refused(change):
    model = build()
    chain = chained(model, folds=1)
    expected = outputs(model)
    layer, _ = layers(model).values()
    change(layer)
    for action in (lambda: outputs(model), chain.fold, chain.finish):
        with pytest.raises(
            ChainError, match=r"compute with a scaling of 6\.0 instead of 3\.0 while"
        ):
            action()
    with model.disable_adapter():
        outputs(model)
    layer.unscale_layer()
    assert torch.equal(outputs(model), expected)
    chain.fold()


@pytest.mark.parametrize("values", [[-3.0, 2.0], [1.0, 2.0], [math.nan, 1.0], [-math.inf, 1.0]])
def test_the_largest_magnitude_is_the_norm_that_torch_has(values):
    values = torch.tensor(values)
    expected = torch.linalg.vector_norm(values, torch.inf)
    torch.testing.assert_close(largest_magnitude(values), expected, equal_nan=True)
