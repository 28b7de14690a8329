"""Whole models with our adapters: merging, scaling, combining, deleting, offloading."""

from __future__ import annotations

import math

import pytest
import torch
from accelerate import cpu_offload
from peft import PeftModel, get_peft_model

from rankwise.core.errors import ModelError, SettingsError
from rankwise.methods.adapters.bridge import adapted_layers, delta
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from tests.models.adapters import OURS, attach, config, inputs, layers, train
from tests.models.architectures import llama
from tests.models.networks import Network

ours = pytest.mark.parametrize("kind", OURS)


def two_adapters(kind, **options):
    model = attach(kind)
    train(model)
    model.add_adapter("other", config(kind, **options))
    model.set_adapter("other")
    train(model)
    return model


@ours
def test_a_safe_merge_that_fails_at_one_layer_leaves_all_as_they_were(kind):
    model = two_adapters(kind)
    layers(model)[1].parts("other")[0].data.fill_(float("nan"))
    before = [layer.weight.clone() for layer in layers(model)]
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(ModelError, match="second: merging adapter 'default', 'other' gives a"):
            merge(adapter_names=["default", "other"], safe_merge=True)
        assert [layer.merged_adapters for layer in layers(model)] == [[], []]
        assert all(torch.equal(a, b.weight) for a, b in zip(before, layers(model), strict=True))


@ours
def test_a_layer_s_own_safe_merge_is_all_or_nothing(kind):
    model = two_adapters(kind)
    layer = layers(model)[0]
    layer.parts("other")[0].data.fill_(float("nan"))
    before = layer.weight.clone()
    with pytest.raises(ModelError, match="not finite"):
        layer.merge(safe_merge=True, adapter_names=["default", "other"])
    assert torch.equal(layer.weight, before)
    assert not layer.merged


@ours
def test_a_change_is_scaled_as_peft_scales_it(kind):
    model = attach(kind, **({"lora_alpha": 6} if kind == "lora_xs" else {}))
    train(model)
    layer = layers(model)[0]
    first = layer.get_delta_weight("default").detach()
    output, base = layer(inputs()), layer.base_layer(inputs())

    def assert_scaled(factor):
        torch.testing.assert_close(layer.get_delta_weight("default"), factor * first)
        torch.testing.assert_close(layer(inputs()) - base, factor * (output - base))

    layer.scale_layer(3.0)
    layer.scale_layer(0.5)
    assert_scaled(1.5)
    layer.unscale_layer(3.0)
    assert_scaled(0.5)
    layer.unscale_layer()
    assert_scaled(1.0)
    layer.set_scale("default", 0.25)
    assert_scaled(0.25)
    layer.set_scale("nobody", 4.0)
    assert_scaled(0.25)


def test_rslora_divides_by_the_root_of_the_rank():
    model = get_peft_model(
        Network(), config("lora_xs", r=4, lora_alpha=6, use_rslora=True, rank_pattern={"second": 2})
    )
    scalings = [layer.scaling["default"] for layer in layers(model)]
    assert scalings == [6 / 2, 6 / math.sqrt(2)]
    with pytest.raises(SettingsError, match="use_rslora has no effect without lora_alpha"):
        LoraXSConfig(use_rslora=True)


@pytest.mark.parametrize("weights", [[0.5, 0.5], [2.0, -0.25]])
def test_adapters_that_share_their_frozen_factors_are_combined_exactly(weights):
    model = two_adapters("lora_xs", lora_alpha=6)
    changes = [
        [delta(layer, name).detach() for name in ("default", "other")] for layer in layers(model)
    ]
    model.add_weighted_adapter(["default", "other"], weights, "mean")
    for layer, (first, second) in zip(layers(model), changes, strict=True):
        expected = weights[0] * first + weights[1] * second
        torch.testing.assert_close(delta(layer, "mean"), expected)
    assert model.active_adapter == "other"
    model.set_adapter("mean")
    train(model)


def test_adapters_with_other_frozen_factors_are_not():
    model = two_adapters("lora_xs", init_weights=False)
    with pytest.raises(ModelError, match=r"at first: .*other frozen factors; export each with"):
        model.add_weighted_adapter(["default", "other"], [0.5, 0.5], "mean")
    assert set(model.peft_config) == {"default", "other"}


def test_nor_are_adapters_of_other_layers_or_another_kind_of_sum():
    model = two_adapters("lora_xs", target_modules=["first"])
    with pytest.raises(ModelError, match=r"at second: it does not carry \['other'\]"):
        model.add_weighted_adapter(["default", "other"], [0.5, 0.5], "mean")
    with pytest.raises(ModelError, match="cannot combine adapters by 'svd' into 'mean'"):
        model.add_weighted_adapter(["default", "other"], [0.5, 0.5], "mean", "svd")


@pytest.mark.filterwarnings("ignore:Adapter default was active")
@ours
def test_no_adapter_or_a_deleted_one_leaves_the_base(kind):
    model, plain = attach(kind), Network()(inputs())
    train(model)
    adapted = model(inputs())
    model.base_model.set_adapter([])
    assert torch.equal(model(inputs()), plain)
    model.set_adapter("default")
    assert torch.equal(model(inputs()), adapted)
    model.base_model.delete_adapter("default")
    assert torch.equal(model.base_model(inputs()), plain)
    model.add_adapter("again", config(kind))
    model.set_adapter("again")
    train(model)
    assert not torch.equal(model(inputs()), plain)


@ours
def test_a_model_whose_weights_are_offloaded_computes_and_trains(kind, tmp_path):
    options = {"target_modules": ["q_proj"], "r": 2}
    torch.manual_seed(1)
    plain = get_peft_model(llama(), config(kind, **options)).eval()
    for parameter in plain.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    plain.save_pretrained(tmp_path)
    tokens = {"input_ids": torch.arange(3, 15).view(2, 6)}
    expected = plain(**tokens).logits

    def offloaded():
        base = llama()
        cpu_offload(base, execution_device=torch.device("cpu"))
        return base

    loaded = PeftModel.from_pretrained(offloaded(), tmp_path, is_trainable=True).eval()
    torch.testing.assert_close(loaded(**tokens).logits, expected)
    loaded(**tokens).logits.square().sum().backward()
    assert all(p.grad is not None for p in loaded.parameters() if p.requires_grad)

    torch.manual_seed(1)
    made = get_peft_model(offloaded(), config(kind, **options))
    torch.manual_seed(1)
    other = get_peft_model(llama(), config(kind, **options))
    for name, layer in adapted_layers(made).items():
        own = layer.parts("default")
        for part, same in zip(own, adapted_layers(other)[name].parts("default"), strict=True):
            assert torch.equal(part, same)


@ours
def test_chosen_tokens_train_beside_the_adapter(kind, tmp_path):
    options = {"target_modules": ["q_proj"], "r": 2, "trainable_token_indices": [5, 7]}
    model = get_peft_model(llama(), config(kind, **options))
    tokens = {"input_ids": torch.arange(3, 15).view(2, 6)}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(**tokens).logits.square().sum().backward()
    optimizer.step()
    moved = model.get_input_embeddings()(torch.arange(12)) - llama().get_input_embeddings()(
        torch.arange(12)
    )
    assert moved.abs().sum(dim=1).nonzero().flatten().tolist() == [5, 7]
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    torch.testing.assert_close(loaded(**tokens).logits, model(**tokens).logits)


@ours
def test_adapters_that_are_not_there_are_not_merged_in_silence(kind):
    model = attach(kind)
    with pytest.raises(ModelError, match=r"no adapter 'other' to merge.*\['default'\]"):
        model.merge_adapter(["default", "other"])
    with pytest.raises(ModelError, match="no adapter 'other' to merge"):
        model.merge_and_unload(adapter_names=["other"])
    assert not any(layer.merged for layer in layers(model))
