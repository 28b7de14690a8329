"""The control of an init has its singular values, and none of its directions."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from rankwise.core.errors import ModelError
from rankwise.methods.adapters.bridge import adapted_layers, adapter_parameters, delta, factors
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.magnitude import randomise_directions
from rankwise.methods.inits.update import UpdateApproximation

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


@pytest.mark.parametrize("kind", [*CONFIGS, "delora"])
def test_what_starts_at_zero_stays_there_along_other_directions(kind):
    torch.manual_seed(0)
    configs = CONFIGS | {"delora": DeloraConfig(r=3, target_modules=["0", "1"])}
    model = get_peft_model(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4)), configs[kind])
    x = torch.randn(5, 8)
    init = UpdateApproximation(lr=0.1, mode="raw", start="zero")
    initialize(model, init, [x], loss=lambda model, x: model(x).square().sum())
    planned = [factors(layer, "default")[1].clone() for layer in adapted_layers(model).values()]
    randomise_directions(model, seed=0)
    assert not any(change.any() for change in changes(model).values())
    for layer, rows in zip(adapted_layers(model).values(), planned, strict=True):
        turned = factors(layer, "default")[1]
        assert not torch.allclose(turned, rows, atol=1e-3)
        if kind != "delora":  # whose rows are scaled by the norms of other columns
            torch.testing.assert_close(turned.norm(), rows.norm(), rtol=1e-5, atol=0)


def test_a_matched_delora_has_no_such_control():
    torch.manual_seed(0)
    config = DeloraConfig(r=2, target_modules=["0"])
    model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape))
    with pytest.raises(ModelError, match="in other directions it has another spectrum"):
        randomise_directions(model, seed=0)
