"""Merged for a while: the same outputs, no adapter in the way, and the weights as they were."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from rankwise.methods.temporary_merge import temporarily_merged
from tests.models import quantised
from tests.models.adapters import KINDS, TARGETS, attach, inputs, layers, train
from tests.models.architectures import gpt2
from tests.models.chains import build, chained
from tests.models.networks import Network

PAIRS = [(kind, layout) for kind in KINDS for layout in ("Linear", "Conv1D")]


def weights(model):
    return [layer.get_base_layer().weight for layer in layers(model)]


@pytest.fixture(params=PAIRS, ids="-".join)
def model(request):
    kind, layout = request.param
    model = attach(kind, layout=layout)
    train(model)
    return model.eval()


def test_the_outputs_are_those_of_the_adapter_and_no_adapter_acts(model):
    expected = model(inputs())
    with temporarily_merged(model) as is_merged:
        assert is_merged
        assert all(layer.disable_adapters for layer in layers(model))
        torch.testing.assert_close(model(inputs()), expected, rtol=1e-4, atol=1e-5)
    assert not any(layer.disable_adapters for layer in layers(model))


def test_the_weights_come_back_bit_for_bit(model):
    same, before = weights(model), [weight.clone() for weight in weights(model)]
    places = [weight.data_ptr() for weight in same]
    output = model(inputs())
    with temporarily_merged(model):
        assert not any(map(torch.equal, weights(model), before))
    assert all(map(torch.equal, weights(model), before))
    assert all(ours is theirs for ours, theirs in zip(weights(model), same, strict=True))
    assert [weight.data_ptr() for weight in weights(model)] == places
    assert torch.equal(model(inputs()), output)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_two_bytes_come_back_too(dtype):
    model = attach("delora", dtype=dtype)
    train(model)
    before = [weight.clone() for weight in weights(model)]
    with temporarily_merged(model) as is_merged:
        assert is_merged
    assert all(map(torch.equal, weights(model), before))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_puts_the_weights_back(model, error):
    before = [weight.clone() for weight in weights(model)]
    with pytest.raises(error), temporarily_merged(model):
        raise error
    assert all(map(torch.equal, weights(model), before))
    assert not any(layer.disable_adapters for layer in layers(model))


def test_an_exception_amid_the_merging_puts_the_weights_back(model, monkeypatch):
    before = [weight.clone() for weight in weights(model)]

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(layers(model)[1], "get_delta_weight", fail)
    with pytest.raises(KeyboardInterrupt), temporarily_merged(model):
        pass
    assert all(map(torch.equal, weights(model), before))


def assert_left_alone(model, run):
    before = run()
    with temporarily_merged(model) as is_merged:
        assert not is_merged
        assert torch.equal(run(), before)


def test_a_merged_weight_that_is_not_finite_is_not_made():
    model = attach("lora", dtype=torch.float16)
    train(model)
    model.base_model.model.second.lora_B["default"].weight.data.fill_(1e6)
    before = [weight.clone() for weight in weights(model)]
    with temporarily_merged(model) as is_merged:
        assert not is_merged
        assert all(map(torch.equal, weights(model), before))


def test_a_change_that_is_no_product_stays_beside_the_weight():
    config = LoraConfig(r=2, target_modules=TARGETS, use_dora=True)
    model = get_peft_model(Network(), config).eval()
    train(model)
    assert_left_alone(model, lambda: model(inputs()))


def test_a_model_without_adapters_is_left_alone():
    model = Network()
    assert_left_alone(model, lambda: model(inputs()))


def test_adapters_that_are_merged_or_off_stay_so(model):
    model.merge_adapter()
    assert_left_alone(model, lambda: model(inputs()))
    model.unmerge_adapter()
    with model.disable_adapter():
        assert_left_alone(model, lambda: model(inputs()))


def test_an_open_chain_is_left_alone():
    model = build()
    chained(model, folds=1)
    x = torch.randn(3, 7)
    assert_left_alone(model, lambda: model(x)["logits"])


@pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings=True`")
def test_a_tied_weight_is_left_alone():
    model = get_peft_model(gpt2(), LoraConfig(r=2, target_modules=["lm_head"])).eval()
    nn.init.normal_(model.base_model.model.lm_head.lora_B["default"].weight)
    tokens = torch.arange(6).reshape(1, 6)
    assert_left_alone(model, lambda: model(tokens).logits)


@pytest.mark.parametrize("kind", quantised.QUANTISED)
def test_a_quantised_weight_is_left_alone(kind):
    model = get_peft_model(quantised.base(kind), quantised.config("lora")).eval()
    tokens = torch.arange(6).reshape(1, 6)
    assert_left_alone(model, lambda: model(tokens).logits)
