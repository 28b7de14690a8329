"""The end of a chain: the base as it was, and one LoRA of all that was learned."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, PeftModel

from rankwise.core.errors import ChainError, SettingsError
from rankwise.methods.adapters import bridge
from rankwise.methods.chain.chain import Chain
from tests.models.chains import (
    base_weights,
    build,
    chained,
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", SIDES)
def test_at_the_end_the_base_is_as_it_was_and_one_lora_has_learned_everything(side, dtype):
    model = build(dtype)
    before = base_weights(model)
    chain = chained(model, side=side)
    assert not same(base_weights(model), before)
    learned = outputs(model)
    report = chain.finish()
    assert same(base_weights(model), before)
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
    assert same(base_weights(model), before)
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
    assert same(base_weights(model), before)
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
    assert same(base_weights(model), before)


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
