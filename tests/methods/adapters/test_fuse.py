"""PEFT's LoRA layers in one step of autograd: their values, their files, and where they stay."""

from __future__ import annotations

import contextlib
import copy
import pickle

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners import lora
from torch import nn

import rankwise
from rankwise.core.errors import ModelError
from rankwise.methods.adapters.fused import FusedLoraLinear, fuse, fused_lora
from rankwise.methods.chain.chain import Chain
from tests.models.fused import fused_layers


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.SiLU(), nn.Linear(7, 3)).double()


def adapted(**options):
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["0", "2"], **options)
    model = get_peft_model(network(), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return model


def layers(model):
    return [each for each in model.modules() if isinstance(each, lora.LoraLayer)]


def values_and_gradients(model, x, **options):
    x = x.clone().requires_grad_(True)
    y = model(x, **options)
    trained = [p for p in model.parameters() if p.requires_grad]
    return [y, *torch.autograd.grad(y.square().sum(), [x, *trained])]


X = torch.randn(4, 5).double()


@pytest.mark.parametrize("scaling", [3.0, 1.0])
def test_values_and_gradients_are_peft_s(scaling):
    model = adapted()
    for layer in layers(model):
        layer.scaling["default"] = scaling
    expected = values_and_gradients(model, X)
    assert fused_layers(model(X)) == 0
    assert rankwise.fuse(model) == ["base_model.model.0", "base_model.model.2"]
    assert fused_layers(model(X)) == 2
    torch.testing.assert_close(values_and_gradients(model, X), expected, rtol=1e-12, atol=1e-12)
    rankwise.unfuse(model)
    assert [type(layer) for layer in layers(model)] == [lora.Linear] * 2
    assert fused_layers(model(X)) == 0


def test_checkpoints_are_those_of_peft_whichever_side_is_fused(tmp_path):
    model = adapted()
    fuse(model)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(network(), tmp_path)
    assert [type(layer) for layer in layers(loaded)] == [lora.Linear] * 2
    torch.testing.assert_close(loaded(X), model(X), rtol=1e-12, atol=1e-12)
    fuse(loaded)
    assert torch.equal(loaded(X), model(X))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_is_fused_too(duplicate):
    model = adapted()
    fuse(model)
    fuse(model)
    twin = duplicate(model)
    assert fused_layers(twin(X)) == 2
    assert torch.equal(twin(X), model(X))


def test_adapters_are_added_switched_merged_and_unloaded_as_before():
    model, plain = adapted(), adapted()
    fuse(model)
    for each in (model, plain):
        torch.manual_seed(3)
        config = LoraConfig(r=1, target_modules=["0"], init_lora_weights=False)
        each.add_adapter("other", config)
    for names in (["other"], ["default"], ["default", "other"], []):
        for each in (model, plain):
            each.base_model.set_adapter(names)
        torch.testing.assert_close(model(X), plain(X), rtol=1e-12, atol=1e-12)
    for each in (model, plain):
        each.base_model.set_adapter("default")
        each.merge_adapter()
    assert torch.equal(model(X), plain(X))
    model.unmerge_adapter()
    plain.unmerge_adapter()
    merged, expected = model.merge_and_unload(), plain.merge_and_unload()
    assert torch.equal(merged(X), expected(X))


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True, "bias": "none"}])
def test_what_does_more_than_that_takes_peft_s_way(options):
    model = adapted(**options).train()
    expected = model(X)
    fuse(model)
    assert fused_layers(model(X)) == 0
    assert torch.equal(model(X), expected)


def test_so_does_a_layer_whose_factors_are_hooked_or_offloaded():
    model = adapted()
    expected = model(X)
    fuse(model)
    first, second = layers(model)
    seen = []
    first.lora_A["default"].register_forward_pre_hook(lambda *_: seen.append("before"))
    second.lora_B["default"].register_forward_hook(lambda *_: seen.append("after"))
    assert fused_layers(model(X)) == 0
    seen.clear()
    output = model(X)
    assert seen == ["before", "after"]
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)


def test_so_do_layers_that_are_disabled_or_merged_or_mix_adapters():
    model = adapted().eval()
    model.add_adapter("other", LoraConfig(r=1, target_modules=["0"], init_lora_weights=False))
    fuse(model)
    with model.disable_adapter():
        assert torch.equal(model(X), network()(X))
    assert fused_layers(model(X[:2], adapter_names=["default", "other"])) == 0
    model.merge_adapter()
    assert fused_layers(model(X)) == 0


def test_a_chain_opens_fused_layers_and_leaves_them_so():
    model, plain = adapted(), adapted()
    fuse(model)
    for each in (model, plain):
        with Chain(each, side="left") as chain:
            chain.fold()
    assert [type(layer) for layer in layers(model)] == [FusedLoraLinear] * 2
    torch.testing.assert_close(model(X), plain(X), rtol=1e-12, atol=1e-12)


def test_a_model_without_plain_lora_layers_is_refused():
    with pytest.raises(ModelError, match="Sequential has no LoRA layer over a linear layer"):
        fuse(network())


def test_for_a_moment_also_with_an_error():
    model = adapted()
    with contextlib.suppress(ZeroDivisionError), fused_lora(layers(model)):
        assert fused_layers(model(X)) == 2
        raise ZeroDivisionError
    assert [type(layer) for layer in layers(model)] == [lora.Linear] * 2
