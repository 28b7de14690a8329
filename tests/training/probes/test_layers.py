"""The change as a function of parameters: equal to the layer's own, for every kind of layer."""

from __future__ import annotations

import peft
import pytest
import torch
from torch import nn

from rankwise.methods.adapters.bridge import adapted_layers
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.chain.chain import Chain
from rankwise.training.probes.layers import change_of

CONFIGS = [
    peft.LoraConfig(r=2, target_modules=["0"]),
    peft.LoraConfig(r=2, target_modules=["0"], lora_dropout=0.5),
    peft.DeloraConfig(r=2, target_modules=["0"]),
    peft.LoHaConfig(r=2, target_modules=["0"]),
    DeloraConfig(r=2, target_modules=["0"]),
    LoraXSConfig(r=2, target_modules=["0"]),
]


def layer_of(config):
    torch.manual_seed(0)
    model = peft.get_peft_model(nn.Sequential(nn.Linear(5, 4)), config).eval()
    (layer,) = adapted_layers(model).values()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    return model, layer


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_it_is_what_the_layer_says(config):
    _, layer = layer_of(config)
    change, parameters = change_of(layer)
    torch.testing.assert_close(change(parameters), layer.get_delta_weight("default"))
    assert set(parameters) == {
        f"layer.{name}" for name, part in layer.named_parameters() if part.requires_grad
    }


def test_other_parameters_give_another_change_and_leave_the_layer_alone():
    _, layer = layer_of(CONFIGS[0])
    change, parameters = change_of(layer)
    before = layer.get_delta_weight("default").clone()
    doubled = {name: 2 * value for name, value in parameters.items()}
    torch.testing.assert_close(change(doubled), 4 * before)
    assert layer.get_delta_weight("default").equal(before)


def test_a_layer_that_is_no_product_is_asked_through_its_forward():
    model, layer = layer_of(peft.LoraConfig(r=2, target_modules=["0"], use_dora=True))
    change, parameters = change_of(layer)
    x = torch.randn(3, 5)
    expected = model(x) - layer.get_base_layer()(x)
    torch.testing.assert_close(x @ change(parameters).T, expected)


def test_of_an_open_chain_it_is_the_change_of_the_current_block():
    model, layer = layer_of(peft.LoraConfig(r=2, target_modules=["0"]))
    with Chain(model, side="left", seed=0):
        change, parameters = change_of(layer)
        x, base = torch.randn(3, 5), layer.get_base_layer()
        torch.testing.assert_close(x @ change(parameters).T, model(x) - base(x))
        assert set(parameters) == {"layer.lora_A.default.weight"}
