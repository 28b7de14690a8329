"""PEFT's LoRA layer in one step of autograd: its values, its gradients, and where it stays."""

import contextlib

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners import lora
from torch import nn

from rankwise.methods.adapters import fused_lora as module
from rankwise.methods.adapters.fused_lora import fused_lora


def adapted(**options):
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(5, 7), nn.SiLU(), nn.Linear(7, 3)).double()
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["0", "2"], **options)
    model = get_peft_model(base, config)
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


@pytest.fixture
def fused_calls(monkeypatch):
    calls, plain = [], module.fused_linear

    def counted(*arguments):
        calls.append(arguments)
        return plain(*arguments)

    monkeypatch.setattr(module, "fused_linear", counted)
    return calls


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"lora_dropout": 0.0}])
def test_values_and_gradients_are_peft_s(options, fused_calls):
    model, x = adapted(**options), torch.randn(4, 5).double()
    expected = values_and_gradients(model, x)
    assert not fused_calls
    with fused_lora(layers(model), "default"):
        actual = values_and_gradients(model, x)
    assert len(fused_calls) == 2
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options", [{"use_dora": True}, {"lora_bias": True, "bias": "none"}, {"lora_dropout": 0.5}]
)
def test_what_does_more_than_that_takes_peft_s_way(options, fused_calls):
    model, x = adapted(**options).train(), torch.randn(4, 5).double()
    torch.manual_seed(1)
    expected = model(x)
    torch.manual_seed(1)
    with fused_lora(layers(model), "default"):
        assert torch.equal(model(x), expected)
    assert not fused_calls


def test_so_do_layers_that_are_disabled_or_merged_or_mix_adapters(fused_calls):
    model, x = adapted().eval(), torch.randn(2, 5).double()
    model.add_adapter("other", LoraConfig(r=1, target_modules=["0"], init_lora_weights=False))
    with fused_lora(layers(model), "default"):
        with model.disable_adapter():
            model(x)
        model(x, adapter_names=["default", "other"])
        model.set_adapter("other")
        model(x)
        model.set_adapter("default")
        model.merge_adapter()
        model(x)
    assert not fused_calls


def test_the_layers_are_peft_s_again_also_after_an_error():
    model = adapted()
    with contextlib.suppress(ZeroDivisionError), fused_lora(layers(model), "default"):
        raise ZeroDivisionError
    assert all("forward" not in vars(layer) for layer in layers(model))
