"""A method's settings become the adapter that they name, or an error about a setting."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.errors import SettingsError
from rankwise.tasks.digits import DigitsTask
from rankwise.tasks.pixels import PixelClassifier
from rankwise.training.adapter import attach_adapter


def attach(settings, name="lora", *, seed=0, r=2, **adapter):
    method = settings(name, r=r, method={"adapter": adapter} if adapter else None).method
    with torch.random.fork_rng():
        base = PixelClassifier(pixels=64)
    return attach_adapter(base, method, task=DigitsTask(), seed=seed)


def factors(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def test_the_seed_decides_the_start_and_the_global_random_state_stays(settings):
    state = torch.get_rng_state()
    first, same, other = (factors(attach(settings, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    name = "base_model.model.layers.0.lora_A.default.weight"
    assert torch.equal(first[name], same[name])
    assert not torch.equal(first[name], other[name])


def test_full_fine_tuning_trains_the_base_itself(settings):
    model = attach(settings, "full")
    assert isinstance(model, PixelClassifier)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_scaling_is_one_unless_alpha_is_set_and_holds_for_single_ranks(settings):
    model = attach(settings, rank_pattern={"layers.4": 1})
    layers = model.base_model.model.layers
    assert [layers[i].scaling["default"] for i in (0, 4)] == [1.0, 1.0]
    layers = attach(settings, alpha=8, rank_pattern={"layers.4": 1}).base_model.model.layers
    assert [layers[i].scaling["default"] for i in (0, 4)] == [4.0, 4.0]


@pytest.mark.parametrize(
    ("targets", "layers"), [(["layers.0"], 1), ("all-linear", 3), (r"layers\.[02]", 2)]
)
def test_target_modules_replace_the_tasks(settings, targets, layers):
    assert len(factors(attach(settings, target_modules=targets))) == 2 * layers


def test_any_config_of_peft_can_be_named(settings):
    model = attach(settings, "peft", peft_type="IA3", options={"feedforward_modules": []})
    assert model.peft_config["default"].peft_type == "IA3"


@pytest.mark.parametrize(
    ("name", "adapter", "message"),
    [
        (
            "lora",
            {"target_modules": ["layers.0", "attention"]},
            r"has no module 'attention'; choose from layers\.0, layers\.2, layers\.4",
        ),
        (
            "lora",
            {"target_modules": "attention"},
            r"'attention' is a regular expression that .*; choose from layers\.0",
        ),
        ("lora", {"target_modules": "(layers"}, r"'\(layers' is no regular expression \(missing"),
        (
            "lora",
            {"rank_pattern": {"layers.9": 1}},
            r"rank_pattern keys did not match .*layers\.9",
        ),
        ("lora-xs", {"rank_pattern": {"layers.4": 6}}, r"r must be between 1 and 5"),
        ("peft", {"peft_type": "LORRA"}, r"no type 'LORRA'; did you mean 'LORA'"),
        ("peft", {"options": {"rr": 1}}, r"method\.adapter\.options: .*'rr'"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(settings, name, adapter, message):
    with pytest.raises(SettingsError, match=message):
        attach(settings, name, **adapter)


@pytest.mark.parametrize("error", [ValueError, TypeError])
def test_a_fault_of_ours_is_not_told_as_the_users_mistake(settings, monkeypatch, error):
    def faulty(*_, **__):
        raise error("a fault of ours")

    monkeypatch.setattr("rankwise.methods.adapters.lora_xs.LoraXSLinear.update_layer", faulty)
    with pytest.raises(error, match=r"^a fault of ours$") as caught:
        attach(settings, "lora-xs")
    assert not isinstance(caught.value, SettingsError)
