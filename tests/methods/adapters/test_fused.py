"""The fused layers against their plain form, which a hook on the base layer brings back."""

from __future__ import annotations

import contextlib
from functools import partial

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from tests.models.adapters import attach, inputs, layers, train
from tests.models.fused import (
    DROPOUT,
    KINDS,
    adapted,
    as_beside_an_accelerator,
    assert_near,
    cases,
    fused_layers,
    plain,
    results,
    with_two_active,
)

ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 2e-2}
kinds = pytest.mark.parametrize("kind", KINDS)
ours = pytest.mark.parametrize("kind", ["lora_xs", "delora"])


@pytest.mark.parametrize(("kind", "dtype"), cases(KINDS, ROUNDING))
def test_outputs_and_all_gradients_equal_those_of_the_plain_form(kind, dtype):
    model = adapted(kind, dtype)
    x = inputs(dtype).view(1, 7, 12)
    assert_near(results(model, x), results(plain(model), x), ROUNDING[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@kinds
def test_so_they_do_under_autocast(kind, dtype):
    model = adapted(kind, dtype)
    with torch.autocast("cpu", torch.bfloat16):
        assert fused_layers(model(inputs(dtype))) == 2
        actual, expected = results(model, inputs(dtype)), results(plain(model), inputs(dtype))
    assert actual["output"].dtype == torch.bfloat16
    # DeLoRA's plain form makes unit vectors of rounded ones.
    assert_near(actual, expected, 3e-2)


@kinds
def test_a_backward_pass_may_be_under_autocast_though_the_forward_pass_was_not(kind):
    model = adapted(kind)
    expected = results(model, inputs())
    model.zero_grad()
    x = inputs().requires_grad_(True)
    loss = model(x).square().sum()
    with torch.autocast("cpu", torch.bfloat16):
        loss.backward()
    torch.testing.assert_close(x.grad, expected["x"], rtol=0.02, atol=0.02)


@pytest.mark.parametrize(("kind", "dtype"), cases(["lora_xs", "delora", "lora"], ROUNDING))
def test_several_active_adapters_are_fused_together(kind, dtype):
    model = with_two_active(kind, dtype)
    assert fused_layers(model(inputs(dtype))) == 2
    assert_near(
        results(model, inputs(dtype)), results(plain(model), inputs(dtype)), ROUNDING[dtype]
    )


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kind", ["lora_xs", "delora", "lora"])
def test_dropout_draws_what_nn_dropout_draws(kind, autocast):
    model = adapted(kind, **{DROPOUT.get(kind, "lora_dropout"): 0.5}).train()
    context = torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext()
    with context:
        torch.manual_seed(5)
        actual = results(model, inputs())
        after = torch.get_rng_state()
        torch.manual_seed(5)
        expected = results(plain(model), inputs())
        assert torch.equal(torch.get_rng_state(), after)
        torch.manual_seed(5)
        assert fused_layers(model(inputs())) == 2
    assert_near(actual, expected, 3e-2 if autocast else 1e-5)
    model.eval()
    assert_near(results(model, inputs()), results(plain(model), inputs()), 1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("dtype", ROUNDING)
def test_what_delora_keeps_beside_an_accelerator_is_what_it_makes_again_on_a_cpu(
    monkeypatch, dtype, dropout
):
    model = adapted("delora", dtype, module_dropout=dropout).train()

    def seeded():
        torch.manual_seed(5)
        return results(model, inputs(dtype))

    expected = seeded()
    as_beside_an_accelerator(monkeypatch)
    actual = seeded()
    assert all(torch.equal(actual[name], value) for name, value in expected.items())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@kinds
def test_values_are_the_same_bits_where_no_gradient_is_wanted(kind, mode):
    model = adapted(kind, **{DROPOUT.get(kind, "lora_dropout"): 0.5}).train()
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            torch.manual_seed(5)
            expected = model(inputs())
            torch.manual_seed(5)
            with mode():
                actual = model(inputs())
        assert not actual.requires_grad
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("kind", ["lora_xs", "delora", "lora"])
def test_checkpointing_repeats_the_draw(kind, use_reentrant):
    model = adapted(kind, **{DROPOUT.get(kind, "lora_dropout"): 0.5}).train()
    torch.manual_seed(5)
    expected = results(model, inputs())
    torch.manual_seed(5)
    run = partial(checkpoint, model, use_reentrant=use_reentrant)
    model.zero_grad()
    x = inputs().requires_grad_(True)
    run(x).float().square().sum().backward()
    assert torch.equal(x.grad, expected["x"])
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(parameter.grad, expected[name])


@kinds
def test_they_go_through_selective_checkpointing_as_the_plain_form_does(kind):
    model = adapted(kind)
    kept = [torch.ops.aten.mm.default, torch.ops.aten.addmm.default]
    contexts = partial(create_selective_checkpoint_contexts, kept)

    def gradients(run):
        model.zero_grad()
        run(inputs()).square().sum().backward()
        return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}

    expected = gradients(model)
    checkpointed = partial(checkpoint, model, use_reentrant=False, context_fn=contexts)
    torch.testing.assert_close(gradients(checkpointed), expected, rtol=0, atol=0)


class Slow(ModelHook):
    """Stands for what brings an offloaded weight when its layer is called."""

    calls = 0

    def pre_forward(self, module, *args, **kwargs):
        self.calls += 1
        return args, kwargs


def hook(layer):
    layer.get_base_layer().register_full_backward_hook(lambda *_: None)


def train_the_weight(layer):
    layer.get_base_layer().weight.requires_grad_(True)


def replace_forward(layer):
    add_hook_to_module(layer.get_base_layer(), Slow())


@pytest.mark.parametrize("change", [hook, train_the_weight, replace_forward])
@kinds
def test_what_does_more_than_a_product_takes_the_plain_form(kind, change):
    model = adapted(kind)
    assert fused_layers(model(inputs())) == 2
    assert fused_layers(plain(model)(inputs())) == 0
    change(layers(model)[0])
    assert fused_layers(model(inputs())) == 1


@kinds
def test_a_replaced_forward_is_called(kind):
    model = adapted(kind)
    expected = model(inputs())
    slow = Slow()
    add_hook_to_module(layers(model)[0].get_base_layer(), slow)
    torch.testing.assert_close(model(inputs()), expected)
    assert slow.calls == 1


def test_a_hooked_factor_is_called():
    model = adapted("lora_xs")
    expected = model(inputs())
    seen = []
    factor = layers(model)[0].rankwise_xs_R["default"]
    factor.register_forward_hook(lambda *arguments: seen.append(arguments[1][0].shape))
    assert fused_layers(model(inputs())) == 1
    torch.testing.assert_close(model(inputs()), expected)
    assert len(seen) == 2


class InPlace(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 8)
        self.act, self.kind = nn.ReLU(inplace=True), kind

    def forward(self, x):
        hidden = self.first(x)
        if self.kind == "residual":
            hidden += x
        else:
            self.act(hidden)
        return self.second(hidden)


@pytest.mark.parametrize("change", ["relu", "residual"])
@ours
def test_a_model_may_change_the_output_of_a_layer_in_place(kind, change, monkeypatch):
    monkeypatch.setattr("tests.models.adapters.Network", lambda *_: InPlace(change))
    model = attach(kind)
    train(model)
    x = inputs().requires_grad_(False)
    assert_near(results(model, x), results(plain(model), x), 1e-5)


@pytest.mark.parametrize("shape", [(12,), (0, 12), (2, 0, 12), (2, 3, 12)])
@kinds
def test_inputs_may_be_one_vector_none_or_a_batch_of_sequences(kind, shape):
    model = adapted(kind)
    x = torch.randn(shape)
    assert model(x).shape == (*shape[:-1], 5)
    torch.testing.assert_close(model(x), plain(model)(x), rtol=1e-5, atol=1e-5)
    model(x).sum().backward()


def test_a_dropout_of_another_kind_is_asked():
    class Halve(nn.Dropout):
        def forward(self, x):
            return x / 2

    model = adapted("lora_xs")
    expected = layers(model)[0](inputs())
    layers(model)[0].dropout["default"] = Halve(0.1)
    base = layers(model)[0].base_layer(inputs())
    torch.testing.assert_close(layers(model)[0](inputs()) - base, (expected - base) / 2)
