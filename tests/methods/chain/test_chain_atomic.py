"""A chain that fails between two layers: every layer is as it was, and the base comes back."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig

from rankwise.methods.chain import chain as chain_module
from rankwise.methods.chain.chain import Chain
from rankwise.methods.chain.merged_history import FoldedLinear
from tests.models.chains import (
    base_weights,
    build,
    chained,
    layers,
    optimizer_of,
    outputs,
    train,
    trained,
)


@pytest.fixture
def model():
    return build()


@pytest.fixture
def fail_at(monkeypatch):
    """Let the n-th fold of a weight from now on run out of memory, once."""
    set_blocks = FoldedLinear.set_blocks

    def arrange(call: int) -> None:
        calls = iter(range(1, 1000))

        def failing(layer, *arguments):
            if next(calls) == call:
                raise MemoryError
            set_blocks(layer, *arguments)

        monkeypatch.setattr(FoldedLinear, "set_blocks", failing)

    return arrange


def state(model) -> dict[str, object]:
    """All that a chain could change: tensors, what trains, the layers' classes and the config."""
    return {
        "tensors": {name: value.tolist() for name, value in model.state_dict().items()},
        "trained": [name for name, p in model.named_parameters() if p.requires_grad],
        "frozen": [dict(layer.frozen_peft_weight_names) for layer in layers(model).values()],
        "classes": [type(layer) for layer in layers(model).values()],
        "blocks": [
            len(layer.history.blocks) if isinstance(layer, FoldedLinear) else None
            for layer in layers(model).values()
        ],
        "config": type(model.peft_config["default"]),
    }


@pytest.mark.parametrize("call", [1, 2])
def test_making_one_leaves_the_model_as_it_was(model, fail_at, call):
    train(model, optimizer_of(model))  # so that the adapter becomes the first block
    before = state(model)
    fail_at(call)
    with pytest.raises(MemoryError):
        Chain(model)
    assert state(model) == before
    Chain(model).finish()


@pytest.mark.parametrize("call", [1, 2])
def test_a_fold_leaves_the_chain_as_it_was(model, fail_at, call):
    chain = chained(model, folds=2)
    optimizer = optimizer_of(model)
    train(model, optimizer)
    before, moments = state(model), copy.deepcopy(optimizer.state_dict())
    fail_at(call)
    with pytest.raises(MemoryError):
        chain.fold(optimizer)
    assert state(model) == before
    assert optimizer.state_dict()["state"].keys() == moments["state"].keys()
    chain.fold(optimizer)
    assert chain.folds == 3


@pytest.mark.parametrize("call", [1, 2])
def test_a_load_leaves_the_chain_as_it_was(model, fail_at, tmp_path, call):
    chained(model, folds=3).save(tmp_path)
    other = build()
    chain = chained(other, folds=1)
    before = state(other)
    fail_at(call)
    with pytest.raises(MemoryError):
        chain.load(tmp_path)
    assert state(other) == before
    chain.load(tmp_path)
    assert torch.equal(outputs(other), outputs(model))


def test_an_end_that_cannot_be_prepared_leaves_the_chain_open(model, monkeypatch):
    weights = base_weights(model)
    chain = chained(model, folds=2)
    before, learned = state(model), outputs(model)
    with monkeypatch.context() as patch:
        patch.setattr(chain_module, "pad", failing_at(chain_module.pad, 3))
        with pytest.raises(MemoryError):
            chain.finish()
    assert state(model) == before
    chain.finish()
    torch.testing.assert_close(outputs(model), learned)
    assert all(map(torch.equal, base_weights(model), weights))


@pytest.mark.parametrize("call", [1, 2])
def test_an_end_that_breaks_restores_the_base_of_every_layer(model, monkeypatch, call):
    weights = base_weights(model)
    chain = chained(model, folds=2)
    close = failing_at(chain_module.close_layer, call)
    monkeypatch.setattr(chain_module, "close_layer", close)
    with pytest.raises(MemoryError), chain:
        pass
    assert all(map(torch.equal, base_weights(model), weights))
    assert not chain.is_open


def test_an_end_that_can_never_be_prepared_gives_the_base_back_all_the_same(model, monkeypatch):
    weights = base_weights(model)
    chain = chained(model, folds=2)

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(chain_module, "plain_factors", fail)
    with pytest.raises(MemoryError), chain:
        pass
    assert all(map(torch.equal, base_weights(model), weights))
    assert {type(layer).__name__ for layer in layers(model).values()} == {"Linear"}
    assert type(model.peft_config["default"]) is LoraConfig
    assert not chain.is_open


def test_a_fold_that_breaks_puts_gradients_and_moments_back(model, fail_at):
    chain = chained(model, folds=1)
    optimizer = optimizer_of(model)
    train(model, optimizer)
    gradients = [parameter.grad.clone() for parameter in trained(model)]
    moments = copy.deepcopy(optimizer.state_dict())
    fail_at(2)
    with pytest.raises(MemoryError):
        chain.fold(optimizer)
    now = [parameter.grad for parameter in trained(model)]
    torch.testing.assert_close(now, gradients, rtol=0, atol=0)
    torch.testing.assert_close(optimizer.state_dict(), moments, rtol=0, atol=0)


def failing_at(function, call: int):
    calls = iter(range(1, 1000))

    def failing(*arguments):
        if next(calls) == call:
            raise MemoryError
        return function(*arguments)

    return failing
