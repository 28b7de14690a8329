"""What our layers refuse, how their files are read, and how they live in a Transformers model."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, inject_adapter_in_model
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file, save_file
from torch import nn

from rankwise.core.errors import AdapterError, ModelError
from tests.models.adapters import attach, config, inputs, layers, train
from tests.models.architectures import gpt2
from tests.models.networks import Network

OURS = pytest.mark.parametrize("kind", ["lora_xs", "delora"])


class PackedParameter(nn.Parameter):
    """Stands for the weights of quantisation libraries, which subclass Parameter."""


@OURS
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Embedding(9, 4), "first is of type Embedding, but only Linear and Conv1D"),
        (nn.Conv2d(3, 4, 2), "first is of type Conv2d, but only Linear and Conv1D"),
    ],
)
def test_other_layers_are_refused_by_name(kind, layer, message):
    with pytest.raises(ModelError, match=message):
        get_peft_model(nn.ModuleDict({"first": layer}), config(kind, target_modules=["first"]))


@OURS
@pytest.mark.parametrize(
    "weight",
    [
        PackedParameter(torch.randn(4, 4)),
        nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False),
    ],
)
def test_quantised_weights_are_refused_by_name(kind, weight):
    layer = nn.Linear(4, 4)
    layer.weight = weight
    with pytest.raises(ModelError, match=r"first \(Linear\) has a weight of type \w*Parameter"):
        get_peft_model(nn.ModuleDict({"first": layer}), config(kind, target_modules=["first"]))


@OURS
def test_a_file_without_one_of_the_tensors_is_refused(kind, tmp_path):
    attach(kind).save_pretrained(tmp_path)
    path = tmp_path / SAFETENSORS_WEIGHTS_NAME
    saved = load_file(path)
    lost = sorted(saved)[0]
    save_file({name: tensor for name, tensor in saved.items() if name != lost}, path)
    with pytest.raises(AdapterError, match=f"lacks 1 of {len(saved)} tensors, .*'{lost}"):
        PeftModel.from_pretrained(Network(), tmp_path)


@OURS
def test_a_merge_that_is_not_finite_is_refused_and_changes_nothing(kind):
    model = attach(kind)
    layer = layers(model)[0]
    weight = layer.weight.clone()
    layer.parts("default")[0].data.fill_(float("nan"))
    with pytest.raises(ModelError, match="merging adapter 'default' gives a weight that is not"):
        layer.merge(safe_merge=True)
    assert torch.equal(layer.weight, weight)
    assert not layer.merged


@OURS
def test_two_merged_adapters_come_off_together(kind):
    model = attach(kind)
    model.add_adapter("other", config(kind))
    layer = layers(model)[0]
    weight = layer.weight.clone()
    layer.merge(adapter_names=["default"])
    with pytest.warns(UserWarning, match="additionally merging other"):
        layer.merge(adapter_names=["other"])
    assert layer.merged_adapters == ["default", "other"]
    layer.unmerge()
    assert torch.equal(layer.weight, weight)


@OURS
def test_an_adapter_may_target_fewer_layers_than_another(kind):
    model = attach(kind)
    train(model)
    model.add_adapter("other", config(kind, target_modules=["first"]))
    model.set_adapter("other")
    untouched = layers(model)[1]
    x = torch.randn(3, 10)
    assert torch.equal(untouched(x), untouched.base_layer(x))
    model.merge_adapter()
    assert [layer.merged for layer in layers(model)] == [True, False]


@OURS
def test_an_adapter_for_inference_waits_for_its_file(kind):
    model = attach(kind, inference_mode=True)
    assert not any(p.requires_grad for p in model.parameters())
    assert torch.equal(model(inputs()), Network()(inputs()))


@pytest.mark.filterwarnings("ignore:(You are trying to modify|Already found a `peft_config`)")
@OURS
def test_our_layers_may_lie_over_those_of_another_adapter(kind):
    inner = get_peft_model(Network(), LoraConfig(r=2, target_modules=["first"]))
    model = get_peft_model(inner.base_model.model, config(kind))
    torch.testing.assert_close(model(inputs()), Network()(inputs()), rtol=0, atol=1e-4)
    train(model)
    assert layers(model)[0].get_delta_weight("default").any()


@pytest.fixture
def language_model():
    return gpt2(n_layer=1).eval()


TOKENS = torch.arange(6).reshape(1, 6)


@OURS
def test_transformers_adds_saves_and_loads_our_adapters(kind, language_model, tmp_path):
    expected = language_model(TOKENS).logits
    language_model.add_adapter(config(kind, target_modules=["c_attn"]))
    torch.testing.assert_close(language_model(TOKENS).logits, expected, rtol=0, atol=1e-4)
    for parameter in language_model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=3.0)
    adapted = language_model(TOKENS).logits
    assert not torch.allclose(adapted, expected, atol=1e-3)
    language_model.save_pretrained(tmp_path)

    fresh = gpt2(n_layer=1).eval()
    fresh.load_adapter(str(tmp_path))
    assert torch.equal(fresh(TOKENS).logits, adapted)


@OURS
def test_injection_without_a_peft_model_works(kind, language_model):
    expected = language_model(TOKENS).logits
    model = inject_adapter_in_model(config(kind, target_modules=["c_attn"]), language_model)
    torch.testing.assert_close(model(TOKENS).logits, expected, rtol=0, atol=1e-4)


@OURS
def test_without_target_modules_pefts_choice_for_the_model_type_is_taken(kind, language_model):
    model = get_peft_model(language_model, config(kind, target_modules=None))
    assert model.base_model.targeted_module_names == ["transformer.h.0.attn.c_attn"]


@OURS
def test_an_adapter_is_not_added_to_a_merged_weight(kind):
    model = attach(kind)
    model.merge_adapter()
    with pytest.raises(ModelError, match=r"has merged adapters.*call unmerge_adapter\(\) first"):
        model.add_adapter("other", config(kind))
    model.unmerge_adapter()
    model.add_adapter("other", config(kind))
    assert set(model.peft_config) == {"default", "other"}
