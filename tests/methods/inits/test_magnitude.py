"""The control of an init has its singular values, and none of its directions."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from rankwise.methods.adapters.bridge import adapted_layers, adapter_parameters, delta
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.inits.magnitude import randomise_directions

CONFIGS = {
    "lora": LoraConfig(r=3, target_modules=["0", "1"]),
    "lora-xs": LoraXSConfig(r=3, target_modules=["0", "1"]),
}


@pytest.fixture(params=CONFIGS)
def model(request):
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))
    model = get_peft_model(base, CONFIGS[request.param])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    return model


def changes(model):
    layers = adapted_layers(model)
    return {name: delta(layer, "default").detach().clone() for name, layer in layers.items()}


def test_singular_values_stay_and_directions_do_not(model):
    before = changes(model)
    randomise_directions(model, seed=0)
    for name, change in changes(model).items():
        values = torch.linalg.svdvals(change)[:3]
        torch.testing.assert_close(values, torch.linalg.svdvals(before[name])[:3])
        torch.testing.assert_close(change.norm(), before[name].norm())
        cosine = (change * before[name]).sum() / change.norm() ** 2
        assert abs(cosine) < 0.9


def test_the_seed_decides_and_layers_differ(model):
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = []
    for seed in (0, 0, 1):
        model.load_state_dict(start)
        randomise_directions(model, seed=seed)
        found.append(changes(model))
    for name, change in found[0].items():
        assert torch.equal(change, found[1][name])
        assert not torch.allclose(change, found[2][name])


def test_each_factor_of_lora_keeps_its_own_spectrum():
    torch.manual_seed(0)
    model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), LoraConfig(r=2, target_modules=["0"]))
    (layer,) = adapted_layers(model).values()
    parts = adapter_parameters(layer, "default")
    before = {name: torch.linalg.svdvals(each.detach()) for name, each in parts.items()}
    randomise_directions(model, seed=0)
    for name, each in adapter_parameters(layer, "default").items():
        torch.testing.assert_close(torch.linalg.svdvals(each.detach()), before[name])
    # B begins at zero, so that the change does.
    assert not delta(layer, "default").any()
