"""The sketches of a chain: from which seed, and from which gradient, each block begins."""

import pytest
import torch
from peft import LoraConfig

from rankwise.core.errors import ModelError, SettingsError
from rankwise.methods.chain.chain import Chain
from tests.models.chains import NAMES, build, layers, trained


def pair(layer):
    return layer.lora_B["default"].weight.detach(), layer.lora_A["default"].weight.detach()


def test_the_same_seed_draws_the_same_sketches_and_others_differ():
    def sketches(seed):
        model = build()
        chain = Chain(model, seed=seed)
        drawn = []
        for _ in range(3):
            drawn += [pair(layer)[0][:5].clone() for layer in layers(model).values()]
            chain.fold()
        return drawn

    first, second = sketches(1), sketches(1)
    assert all(torch.equal(*drawn) for drawn in zip(first, second, strict=True))
    everything = [*first, *sketches(2)]  # two layers, three blocks, two seeds
    assert len({tuple(sketch.flatten().tolist()) for sketch in everything}) == 12


def test_cola_starts_A_within_the_bound_of_its_own_fan_in():
    # The released code takes the fan of the transposed tensor: 0.738 where it should be 0.026.
    model = build()
    Chain(model, side="both")
    for layer, fan_in in zip(layers(model).values(), (7, 6), strict=True):
        assert pair(layer)[1].abs().max() <= fan_in**-0.5


def test_either_factor_may_be_the_one_that_begins_at_random_while_both_train():
    for side, random in (("both", 1), ("both-left", 0)):
        model = build()
        chain = Chain(model, side=side, sketch="gaussian")
        for _ in range(2):
            for layer in layers(model).values():
                factors = pair(layer)
                assert factors[random].abs().min() > 0
                assert not factors[1 - random].any()
                assert layer.lora_A["default"].weight.requires_grad
                assert layer.lora_B["default"].weight.requires_grad
            chain.fold()


def constant_gradients(layers, *, consume):
    for number, name in enumerate(layers):
        generator = torch.Generator().manual_seed(number)
        shape = ((6, 7), (5, 6))[number]
        consume(name, torch.randn(shape, generator=generator))


def test_a_gradient_sketch_spans_the_leading_subspace_of_the_gradient():
    model = build()
    chain = Chain(model, side="left", sketch="gradient", gradients=constant_gradients)
    gradients = {}
    constant_gradients(layers(model), consume=gradients.__setitem__)
    for name, layer in layers(model).items():
        B, _ = pair(layer)
        U = torch.linalg.svd(gradients[name]).U[:, :2]
        torch.testing.assert_close(B @ B.T, U @ U.T)
    chain.fold()
    assert chain.folds == 1


def test_gradients_that_leave_a_layer_out_are_refused_and_change_nothing():
    model = build()

    def first_only(layers, *, consume):
        consume(NAMES[0], torch.ones(6, 7))

    with pytest.raises(ModelError, match=f"gradients left out \\['{NAMES[1]}'\\]"):
        Chain(model, sketch="gradient", gradients=first_only)
    assert type(model.peft_config["default"]) is LoraConfig
    assert len(trained(model)) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": "up"}, "no side 'up'; choose from both, both-left, left, right"),
        ({"sketch": "gausian"}, "no sketch 'gausian'; did you mean 'gaussian'"),
        ({"sketch": "gradient"}, "got sketch='gradient' without them"),
        ({"gradients": constant_gradients}, "got sketch='gaussian' with them"),
    ],
)
def test_a_wrong_setting_is_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        Chain(build(), **options)
