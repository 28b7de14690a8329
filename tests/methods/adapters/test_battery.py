"""What every kind of adapter promises on every family; PEFT's own LoRA is the control."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from peft import PeftModel, convert_to_lora

from rankwise.methods.adapters.bridge import adapter_parameters, delta, factors
from tests.models.adapters import KINDS, OURS
from tests.models.families import (
    FAMILIES,
    PLAIN,
    attach,
    base,
    config,
    logits,
    train,
    trainable,
    tuner_layers,
)
from tests.models.families import trained as attach_and_train
from tests.models.networks import Network

HALF = torch.bfloat16
ROUNDING = {torch.float32: 1e-5, HALF: 3e-2}

every = pytest.mark.parametrize(
    ("kind", "family", "dtype"),
    [
        pytest.param(*case, torch.float32, id="-".join(case))
        for case in itertools.product(KINDS, FAMILIES)
    ]
    + [
        pytest.param(*case, HALF, id=f"{'-'.join(case)}-bfloat16")
        for case in itertools.product(KINDS, PLAIN)
    ],
)


@pytest.fixture
def trained(kind, family, dtype):
    return attach_and_train(kind, family, dtype=dtype)


@pytest.fixture
def plain(family, dtype):
    """The outputs of the base alone."""
    return logits(base(family, dtype), family)


def tensors(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def layers(model):
    return list(tuner_layers(model).values())


def assert_near(actual, expected, dtype):
    scale = expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=ROUNDING[dtype] * scale)


def assert_is_at_the_start(kind, actual, expected):
    if kind == "lora_xs":  # its core starts at N(0, 1e-5²)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)
    else:
        assert torch.equal(actual, expected)


@every
def test_the_start_leaves_the_outputs_unchanged(plain, kind, family, dtype):
    assert_is_at_the_start(kind, logits(attach(kind, family, dtype=dtype), family), plain)


@every
def test_an_optimizer_step_moves_the_adapter_alone(kind, family, dtype):
    model = attach(kind, family, dtype=dtype)
    own = {
        id(parameter)
        for layer in layers(model)
        for parameter in adapter_parameters(layer, "default").values()
    }
    names = {name for name, parameter in model.named_parameters() if id(parameter) in own}
    assert names == trainable(model)
    before = tensors(model)
    train(model, family)
    assert {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])} == names


@every
def test_what_trains_is_float32(kind, family, dtype):
    model = attach(kind, family, dtype=dtype)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@every
def test_a_saved_adapter_loads_to_the_same_bits(
    trained, kind, family, dtype, low_cpu_mem_usage, tmp_path
):
    if kind == "lora" and dtype == HALF and low_cpu_mem_usage:
        for parameter in trained.parameters():  # PEFT rounds its own factors to the base's dtype
            parameter.data = parameter.bfloat16().to(parameter.dtype)
    trained.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(
        base(family, dtype), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage
    ).eval()
    assert not trainable(loaded)
    expected = trained.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name
    assert torch.equal(logits(loaded, family), logits(trained, family))


@every
def test_a_loaded_adapter_can_train_on(trained, kind, family, dtype, tmp_path):
    trained.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base(family, dtype), tmp_path, is_trainable=True).eval()
    for model in (trained, loaded):
        train(model, family)
    assert torch.equal(logits(loaded, family), logits(trained, family))


@pytest.mark.filterwarnings("ignore:Adapter default was active")
@every
def test_adapters_are_added_switched_and_deleted(trained, plain, kind, family, dtype):
    first = logits(trained, family)
    trained.add_adapter("other", config(kind, family, r=1))
    assert torch.equal(logits(trained, family), first)

    trained.set_adapter("other")
    assert_is_at_the_start(kind, logits(trained, family), plain)
    for layer in layers(trained):
        active = adapter_parameters(layer, "other").values()
        idle = adapter_parameters(layer, "default").values()
        assert all(p.requires_grad for p in active)
        assert not any(p.requires_grad for p in idle)
    train(trained, family)
    other = logits(trained, family)
    assert not torch.equal(other, plain)

    trained.set_adapter("default")
    assert torch.equal(logits(trained, family), first)
    trained.delete_adapter("default")
    assert torch.equal(logits(trained, family), other)
    assert set(trained.peft_config) == {"other"}
    assert not [name for name in trained.state_dict() if ".default." in name]
    train(trained, family)


@every
def test_active_adapters_add_up(trained, kind, family, dtype):
    trained.add_adapter("other", config(kind, family))
    trained.set_adapter("other")
    train(trained, family)
    layer = layers(trained)[0]
    x = torch.randn(5, layer.in_features).to(dtype)
    trained.base_model.set_adapter(["default", "other"])
    both = sum(delta(layer, name) for name in ("default", "other"))
    with torch.no_grad():
        assert_near(layer(x).float(), (layer.base_layer(x) + x.float() @ both.T).float(), dtype)


@every
def test_disabled_adapters_leave_the_base(trained, plain, kind, family, dtype):
    adapted = logits(trained, family)
    with trained.disable_adapter():
        assert torch.equal(logits(trained, family), plain)
    assert torch.equal(logits(trained, family), adapted)


@every
def test_merging_keeps_the_outputs_and_unmerging_the_weights(trained, kind, family, dtype):
    weights, adapted = tensors(trained), logits(trained, family)
    for _ in range(3):
        trained.merge_adapter(safe_merge=True)
        assert_near(logits(trained, family), adapted, dtype)
        trained.unmerge_adapter()
    if kind in OURS:
        assert all(torch.equal(t, weights[name]) for name, t in trained.state_dict().items())
        assert torch.equal(logits(trained, family), adapted)


@every
def test_disabling_a_merged_adapter_unmerges_it(trained, plain, kind, family, dtype):
    trained.merge_adapter()
    with trained.disable_adapter():
        assert_near(logits(trained, family), plain, dtype)


@every
def test_merging_and_unloading_give_a_plain_model(trained, plain, kind, family, dtype):
    adapted = logits(trained, family)
    merged = copy.deepcopy(trained).merge_and_unload(safe_merge=True)
    assert_near(logits(merged, family), adapted, dtype)
    unloaded = trained.unload()
    assert torch.equal(logits(unloaded, family), plain)
    model = base(family, dtype)
    for result in (merged, unloaded):
        assert type(result) is type(model)
        assert result.state_dict().keys() == model.state_dict().keys()
        assert not tuner_layers(result)


@every
def test_the_factors_are_the_change_of_the_outputs(trained, kind, family, dtype):
    for layer in layers(trained):
        B, A = factors(layer, "default")
        assert B.shape == (layer.out_features, len(A))
        torch.testing.assert_close(B @ A, delta(layer, "default"))
        x = torch.eye(layer.in_features, dtype=dtype)
        with torch.no_grad():
            adapted = layer(x).float()
            change = adapted - layer.base_layer(x).float()
            atol = ROUNDING[dtype] * adapted.abs().max().item()
            torch.testing.assert_close(change, (B @ A).T, rtol=0, atol=atol)


@every
def test_peft_converts_the_adapter_to_lora(trained, kind, family, dtype):
    if kind == "lora":
        with pytest.warns(UserWarning, match="already a LoRA"):
            _, converted = convert_to_lora(trained, rank=4)
    else:
        _, converted = convert_to_lora(trained, rank=4)
    for name, layer in tuner_layers(trained).items():
        B, A = (converted[f"{name}.lora_{factor}.weight"] for factor in "BA")
        torch.testing.assert_close(B @ A, delta(layer, "default"), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@every
def test_copies_are_independent(trained, kind, family, dtype, duplicate):
    twin, adapted = duplicate(trained), logits(trained, family)
    assert torch.equal(logits(twin, family), adapted)
    train(twin, family)
    assert not torch.equal(logits(twin, family), adapted)
    assert torch.equal(logits(trained, family), adapted)


@pytest.mark.parametrize("kind", OURS)
def test_train_and_eval_return_the_layer(kind):
    for layer in layers(attach(kind, "linear")):
        assert layer.train() is layer
        assert layer.eval() is layer


@pytest.mark.parametrize(
    ("kind", "option"), [("lora_xs", "lora_dropout"), ("delora", "module_dropout")]
)
def test_dropout_acts_on_the_adapter_alone_and_in_training_alone(kind, option):
    model = attach(kind, "linear", **{option: 0.5}).train()
    layer = layers(model)[0]
    x = torch.randn(7, layer.in_features)
    assert_is_at_the_start(kind, layer(x), layer.base_layer(x))
    train(model, "linear")
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("kind", OURS)
def test_inputs_under_autocast_keep_the_dtype_of_the_base(kind):
    layer = layers(attach(kind, "linear"))[0]
    x = torch.randn(7, layer.in_features)
    with torch.autocast("cpu", dtype=HALF):
        assert layer(x).dtype == layer.base_layer(x).dtype == HALF


@pytest.mark.parametrize("kind", OURS)
def test_an_adapter_can_be_loaded_before_its_base(kind, tmp_path):
    model = attach_and_train(kind, "linear")
    model.save_pretrained(tmp_path)
    with torch.device("meta"):
        skeleton = Network()
    loaded = PeftModel.from_pretrained(skeleton, tmp_path, low_cpu_mem_usage=True).eval()
    network = Network()
    for layer, ready in zip(layers(loaded), (network.first, network.second), strict=True):
        layer.base_layer.load_state_dict(ready.state_dict(), assign=True)
    loaded.base_model.model.head = network.head
    assert torch.equal(logits(loaded, "linear"), logits(model, "linear"))
