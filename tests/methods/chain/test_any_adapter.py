"""A chain of LoRA-XS or DeLoRA: each block starts at exactly zero, and one plain LoRA is left."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
from peft import LoraConfig, PeftModel
from peft.tuners import lora

from rankwise.capture.gradients import capture_gradients
from rankwise.core.errors import AdapterError, ChainError, ModelError, SettingsError
from rankwise.export.lora import export_lora
from rankwise.methods.adapters import bridge
from rankwise.methods.chain.chain import Chain
from rankwise.methods.chain.layer import OpenedLayer
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.adapters import KINDS
from tests.models.any_chains import (
    SIDES,
    build,
    chained,
    kinds,
    own_change,
    pretrained,
    two_kinds,
)
from tests.models.chains import (
    base_weights,
    inputs,
    layers,
    optimizer_of,
    outputs,
    same,
    train,
)
from tests.models.networks import MixedNetwork

# PEFT's, where layers of a model differ in how they store their weight.
pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to")


# --- a block -----------------------------------------------------------------------------------


@kinds
def test_a_chain_begins_at_the_base_itself(kind):
    model = build(kind)
    Chain(model)
    assert torch.equal(outputs(model), pretrained(kind))
    assert all(not own_change(layer).any() for layer in layers(model).values())


@kinds
def test_a_fold_keeps_the_outputs_and_begins_at_exactly_zero_elsewhere(kind):
    model = build(kind)
    chain = Chain(model)
    optimizer = optimizer_of(model)
    for _ in range(3):
        before = [
            {part: value.clone() for part, value in layer.open_parts().items()}
            for layer in layers(model).values()
        ]
        train(model, optimizer)
        learned = outputs(model)
        chain.fold(optimizer)
        torch.testing.assert_close(outputs(model), learned, rtol=1e-5, atol=1e-5)
        for layer, parts in zip(layers(model).values(), before, strict=True):
            assert not own_change(layer).any()
            moved = [
                part
                for part, value in layer.open_parts().items()
                if not torch.equal(value, parts[part])
            ]
            assert len(moved) >= 2, "the directions are fresh ones"
    assert chain.folds == 3


@two_kinds
def test_only_what_trains_of_the_adapter_trains(kind):
    model = build(kind)
    before = {name for name, each in model.named_parameters() if each.requires_grad}
    chain = Chain(model)
    model.set_adapter("default")  # PEFT thaws an adapter here
    assert {name for name, each in model.named_parameters() if each.requires_grad} == before
    chain.check_optimizer(optimizer_of(model))


def test_a_strength_that_is_kept_stays_out_of_training():
    model = build("delora of kept strength")
    Chain(model)
    assert not any("lambda" in name for name, p in model.named_parameters() if p.requires_grad)


def test_a_strength_begins_each_block_at_its_first_value():
    model = build("delora")
    chain = chained(model, folds=1)
    strengths = [
        layer.open_parts()["rankwise_decoupled_lambda"].detach() for layer in layers(model).values()
    ]
    assert all(each.item() != 2.0 for each in strengths)
    chain.fold()
    assert [each.item() for each in strengths] == [2.0, 2.0]


def following_gradients(model):
    """Return a chain that sketches from gradients of one batch, and what takes these by layer."""
    batch = [{"x": inputs(), "labels": torch.arange(9) % 5}]
    gradients = functools.partial(capture_gradients, model, batches=batch)

    def present_gradients():
        now = {}
        sources = {name: bridge.gradient_source(layer) for name, layer in layers(model).items()}
        gradients(sources, consume=now.__setitem__)
        return now

    return Chain(model, sketch="gradient", gradients=gradients), present_gradients


def test_an_sb_chain_takes_its_frozen_factors_from_the_gradient_at_that_point():
    model = build("lora_xs")
    chain, present_gradients = following_gradients(model)
    optimizer = optimizer_of(model)
    for fold in range(2):
        if fold:
            train(model, optimizer)
            chain.fold(optimizer)
        now = present_gradients()
        for name, layer in layers(model).items():
            _, B, A = layer.parts("default")
            U, _, Vh = torch.linalg.svd(now[name])
            torch.testing.assert_close(B @ B.T, U[:, :2] @ U[:, :2].T, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(A.T @ A, Vh[:2].T @ Vh[:2], rtol=1e-4, atol=1e-4)


def test_a_chain_of_delora_changes_the_weight_along_the_gradient_at_that_point():
    model = build("delora")
    chain, present_gradients = following_gradients(model)
    optimizer = optimizer_of(model)
    for fold in range(2):
        if fold:
            train(model, optimizer)
            learned = outputs(model)
            chain.fold(optimizer)
            torch.testing.assert_close(outputs(model), learned, rtol=1e-5, atol=1e-5)
        now = present_gradients()
        for name, layer in layers(model).items():
            assert not own_change(layer).any()
            A, B, _, A0, B0, norms = layer.parts("default")
            assert norms.unique().numel() > 1, "columns of one norm would not tell"
            assert torch.equal(A, A0)
            assert torch.equal(B, B0)
            U, _, Vh = torch.linalg.svd(now[name])
            left = torch.nn.functional.normalize(B, dim=-2)
            right = torch.nn.functional.normalize(A * norms, dim=-1)
            for term in range(2):
                torch.testing.assert_close(
                    torch.outer(left[:, term], left[:, term]),
                    torch.outer(U[:, term], U[:, term]),
                    rtol=1e-3,
                    atol=1e-4,
                )
                torch.testing.assert_close(
                    torch.outer(right[term], right[term]),
                    torch.outer(Vh[term], Vh[term]),
                    rtol=1e-3,
                    atol=1e-4,
                )


def test_a_direction_in_columns_of_zero_alone_stays_as_it_was_drawn():
    model = build("delora")
    layer = next(iter(layers(model).values()))
    norms = layer.parts("default")[-1]
    norms[0] = 0.0
    A = torch.eye(2, norms.numel())
    assert torch.equal(layer.rows_along("default", A), A)


@two_kinds
def test_the_drawn_sketches_depend_on_seed_layer_and_block_alone(kind):
    def drawn(seed: int) -> list[torch.Tensor]:
        model = build(kind)
        chain = Chain(model, seed=seed)
        first = [own.clone() for own in parts(model)]
        chain.fold()
        return [*first, *parts(model)]

    def parts(model) -> list[torch.Tensor]:
        return [
            part.detach()
            for layer in layers(model).values()
            for name, part in layer.open_parts().items()
            if name[-1] in "AB"
        ]

    assert same(drawn(0), drawn(0))
    assert not any(map(torch.equal, drawn(0), drawn(1)))
    assert len({tuple(each.flatten().tolist()) for each in drawn(0)}) == len(drawn(0))


# --- its end -----------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("folds", [0, 2])
def test_it_leaves_one_plain_lora_beside_the_base_restored_bit_for_bit(kind, folds, tmp_path):
    model = build(kind)
    weights = base_weights(model)
    chain = chained(model, folds=folds)
    learned = outputs(model)
    report = chain.finish()
    k = SIDES[kind.partition(" ")[0]]
    assert (report.blocks, report.rank) == (folds + 1, k * (folds + 1))
    assert same(base_weights(model), weights)
    assert {type(layer) for layer in layers(model).values()} == {lora.Linear}
    assert type(model.peft_config["default"]) is LoraConfig
    torch.testing.assert_close(outputs(model), learned, rtol=1e-5, atol=1e-5)
    with model.disable_adapter():
        assert torch.equal(outputs(model), pretrained(kind))
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(build(kind).unload(), tmp_path)
    assert torch.equal(outputs(loaded), outputs(model))
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        f"base_model.model.{name}.lora_{factor}.default.weight"
        for name in ("first", "second")
        for factor in "AB"
    }
    train(model, optimizer_of(model))  # it trains on as any LoRA
    merged = model.merge_and_unload()
    assert type(merged) is MixedNetwork


@two_kinds
def test_what_is_left_is_exported_and_compressed_as_any_lora(kind, tmp_path):
    model = build(kind)
    chain = chained(model)
    report = chain.finish(final_rank=3)
    assert report.rank == 3
    assert set(report.errors) == set(layers(model))
    assert export_lora(model, tmp_path / "out").rank == 3


@two_kinds
def test_hooks_and_mode_of_a_layer_outlive_the_chain(kind):
    model = build(kind).eval()
    calls = []
    for layer in layers(model).values():
        layer.register_forward_hook(lambda *_: calls.append(1))
    Chain(model).finish()
    outputs(model)
    assert len(calls) == 2
    assert not any(module.training for module in model.modules())


@two_kinds
def test_an_exception_in_training_restores_the_base_and_keeps_what_was_learned(kind):
    model = build(kind)
    weights = base_weights(model)
    learned = []

    def interrupted() -> None:
        with Chain(model) as chain:
            train(model, optimizer_of(model))
            chain.fold()
            learned.append(outputs(model))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert same(base_weights(model), weights)
    torch.testing.assert_close(outputs(model), learned[0], rtol=1e-5, atol=1e-5)


@two_kinds
def test_a_bfloat16_base_comes_back_bit_for_bit(kind):
    model = build(kind, torch.bfloat16)
    weights = base_weights(model)
    chain = chained(model)
    chain.finish()
    assert same(base_weights(model), weights)


# --- what it begins with -------------------------------------------------------------------------


@two_kinds
def test_an_adapter_that_has_learned_becomes_the_first_block(kind):
    model = build(kind)
    train(model, optimizer_of(model))
    learned = outputs(model)
    chain = Chain(model)
    torch.testing.assert_close(outputs(model), learned, rtol=1e-5, atol=1e-5)
    report = chain.finish()
    assert (report.blocks, report.rank) == (2, SIDES[kind])


def test_the_start_of_lora_sb_becomes_the_first_block():
    model = build("lora_xs")
    batch = {"x": inputs(), "labels": torch.arange(9) % 5}
    initialize(model, UpdateApproximation(lr=0.1), [batch])
    started = outputs(model)
    Chain(model)
    torch.testing.assert_close(outputs(model), started, rtol=1e-5, atol=1e-5)
    assert not torch.equal(started, pretrained("lora_xs"))


def test_a_start_that_was_never_needed_is_never_computed(monkeypatch):
    from rankwise.methods.adapters import lora_xs

    def decompose(*_, **__):
        raise AssertionError("the weight was decomposed")

    monkeypatch.setattr(lora_xs, "_singular_factors", decompose)
    monkeypatch.setattr(lora_xs, "truncated_svd", decompose)
    Chain(build("lora_xs")).finish()


# --- in between ----------------------------------------------------------------------------------


@two_kinds
def test_it_is_copied_and_pickled_with_its_chain(kind):
    model = build(kind)
    chained(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(outputs(twin), outputs(model))
        assert all(isinstance(layer, OpenedLayer) for layer in layers(twin).values())
        twin.peft_config["default"].chain.finish()
        assert {type(layer) for layer in layers(twin).values()} == {lora.Linear}


@two_kinds
def test_what_the_adapter_says_of_itself_is_the_whole_chain(kind):
    model = build(kind)
    chain = chained(model)
    before = [bridge.delta(layer, "default") for layer in layers(model).values()]
    chain.finish()
    after = [bridge.delta(layer, "default") for layer in layers(model).values()]
    for change, plain in zip(before, after, strict=True):
        torch.testing.assert_close(change, plain.to(change.dtype), rtol=1e-5, atol=1e-5)


@two_kinds
@pytest.mark.parametrize(
    "act",
    [
        lambda model: model.merge_adapter(),
        lambda model: model.merge_and_unload(),
        lambda model: model.unload(),
        lambda model: model.add_adapter("other", copy.deepcopy(model.peft_config["default"])),
        lambda model: model(inputs(), adapter_names=["default"] * 9),
    ],
)
def test_what_would_go_wrong_meanwhile_is_refused(kind, act):
    model = build(kind)
    chained(model)
    before = outputs(model)
    with pytest.raises((ChainError, AdapterError, ModelError)):
        act(model.eval())
    assert torch.equal(outputs(model), before)


@two_kinds
def test_a_side_is_refused_where_both_factors_are_sketched(kind):
    model = build(kind)
    with pytest.raises(SettingsError, match=r"side says which factor of a LoRA .* got 'left'"):
        Chain(model, side="left")


@two_kinds
def test_a_second_adapter_is_refused_as_its_layers_become_a_lora(kind):
    model = build(kind)
    model.add_adapter("other", KINDS[kind](r=2, target_modules=["first"]))
    with pytest.raises(ModelError, match="carries adapter 'other' too, which would be lost"):
        Chain(model)


@two_kinds
def test_deleting_the_adapter_gives_the_base_back(kind):
    model = build(kind)
    weights = base_weights(model)
    chain = chained(model)
    linear = layers(model)["base_model.model.first"]
    model.delete_adapter("default")
    assert torch.equal(linear.get_base_layer().weight, weights[0])
    assert not chain.is_open
