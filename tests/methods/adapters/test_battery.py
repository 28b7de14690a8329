"""What every adapter promises, on every kind of layer and base; PEFT's own LoRA is the control."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from peft import PeftModel, convert_to_lora

from rankwise.methods.adapters.bridge import adapter_parameters, delta, factors
from tests.models.adapters import attach, config, inputs, layers, tensors, train
from tests.models.networks import Network

KINDS = ("lora_xs", "delora", "lora")
OURS = KINDS[:2]
DTYPES = (torch.float32, torch.bfloat16)
LAYOUTS = ("Linear", "Conv1D")
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 3e-2}

every = pytest.mark.parametrize(
    ("kind", "layout", "dtype"),
    [
        pytest.param(*case, id="-".join(str(part).removeprefix("torch.") for part in case))
        for case in itertools.product(KINDS, LAYOUTS, DTYPES)
    ],
)


@pytest.fixture
def trained(kind, layout, dtype):
    model = attach(kind, layout=layout, dtype=dtype)
    train(model)
    return model.eval()


def assert_near(actual, expected, dtype):
    scale = expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=ROUNDING[dtype] * scale)


def assert_is_at_the_start(kind, actual, expected):
    if kind == "lora_xs":  # its core starts at N(0, 1e-5²)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)
    else:
        assert torch.equal(actual, expected)


@every
def test_the_start_leaves_the_outputs_unchanged(kind, layout, dtype):
    x = inputs(dtype)
    model = attach(kind, layout=layout, dtype=dtype)
    assert_is_at_the_start(kind, model(x), Network(layout, dtype)(x))


@every
def test_an_optimizer_step_moves_the_adapter_alone(kind, layout, dtype):
    model = attach(kind, layout=layout, dtype=dtype)
    own = {
        id(parameter)
        for layer in layers(model)
        for parameter in adapter_parameters(layer, "default").values()
    }
    names = {name for name, p in model.named_parameters() if id(p) in own}
    assert names == {name for name, p in model.named_parameters() if p.requires_grad}
    before = tensors(model)
    train(model)
    assert {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])} == names


@every
def test_what_trains_is_float32(kind, layout, dtype):
    model = attach(kind, layout=layout, dtype=dtype)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@every
def test_a_saved_adapter_loads_to_the_same_bits(
    trained, kind, layout, dtype, low_cpu_mem_usage, tmp_path
):
    if kind == "lora" and dtype == torch.bfloat16 and low_cpu_mem_usage:
        for parameter in trained.parameters():  # PEFT rounds its own factors to the base's dtype
            parameter.data = parameter.bfloat16().to(parameter.dtype)
    trained.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(
        Network(layout, dtype), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage
    )
    expected = trained.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name
    assert torch.equal(loaded(inputs(dtype)), trained(inputs(dtype)))


@every
def test_a_loaded_adapter_can_train_on(trained, kind, layout, dtype, tmp_path):
    trained.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(Network(layout, dtype), tmp_path, is_trainable=True)
    for model in (trained.train(), loaded):
        train(model)
    assert torch.equal(loaded(inputs(dtype)), trained(inputs(dtype)))


@pytest.mark.filterwarnings("ignore:Adapter default was active")
@every
def test_adapters_are_added_switched_and_deleted(trained, kind, layout, dtype):
    x = inputs(dtype)
    base, first = Network(layout, dtype)(x), trained(x)
    trained.add_adapter("other", config(kind, layout, r=2))
    assert torch.equal(trained(x), first)

    trained.set_adapter("other")
    assert_is_at_the_start(kind, trained(x), base)
    for layer in layers(trained):
        active = adapter_parameters(layer, "other").values()
        idle = adapter_parameters(layer, "default").values()
        assert all(p.requires_grad for p in active)
        assert not any(p.requires_grad for p in idle)
    train(trained)
    other = trained(x)
    assert not torch.equal(other, base)

    trained.set_adapter("default")
    assert torch.equal(trained(x), first)
    trained.delete_adapter("default")
    assert torch.equal(trained(x), other)
    assert not [name for name in trained.state_dict() if name.endswith(".default")]


@every
def test_active_adapters_add_up(trained, kind, layout, dtype):
    trained.add_adapter("other", config(kind, layout))
    trained.set_adapter("other")
    train(trained)
    layer = layers(trained)[0]
    x = inputs(dtype)
    trained.base_model.set_adapter(["default", "other"])
    both = sum(delta(layer, name) for name in ("default", "other"))
    assert_near(layer(x).float(), (layer.base_layer(x) + x.float() @ both.T).float(), dtype)


@every
def test_disabled_adapters_leave_the_base(trained, kind, layout, dtype):
    x = inputs(dtype)
    adapted = trained(x)
    with trained.disable_adapter():
        assert torch.equal(trained(x), Network(layout, dtype)(x))
    assert torch.equal(trained(x), adapted)


@every
def test_merging_keeps_the_outputs_and_unmerging_the_weights(trained, kind, layout, dtype):
    x, weights = inputs(dtype), tensors(trained)
    adapted = trained(x)
    for _ in range(10):
        trained.merge_adapter(safe_merge=True)
        assert_near(trained(x), adapted, dtype)
        trained.unmerge_adapter()
    if kind in OURS:
        assert all(torch.equal(t, weights[name]) for name, t in trained.state_dict().items())
        assert torch.equal(trained(x), adapted)


@every
def test_disabling_a_merged_adapter_unmerges_it(trained, kind, layout, dtype):
    x = inputs(dtype)
    trained.merge_adapter()
    with trained.disable_adapter():
        assert_near(trained(x), Network(layout, dtype)(x), dtype)


@every
def test_merge_and_unload_gives_a_plain_network(trained, kind, layout, dtype):
    x = inputs(dtype)
    adapted = trained(x)
    plain = trained.merge_and_unload()
    assert plain.state_dict().keys() == Network(layout).state_dict().keys()
    assert_near(plain(x), adapted, dtype)


@every
def test_the_factors_are_the_change_of_the_outputs(trained, kind, layout, dtype):
    for layer in layers(trained):
        B, A = factors(layer, "default")
        assert B.shape == (layer.out_features, len(A))
        torch.testing.assert_close(B @ A, delta(layer, "default"))
        x = torch.eye(layer.in_features, dtype=dtype)
        change = layer(x).float() - layer.base_layer(x).float()
        atol = ROUNDING[dtype] * layer(x).abs().max().item()
        torch.testing.assert_close(change, (B @ A).T, rtol=0, atol=atol)


@every
def test_peft_converts_the_adapter_to_lora(trained, kind, layout, dtype):
    if kind == "lora":
        with pytest.warns(UserWarning, match="already a LoRA"):
            _, converted = convert_to_lora(trained, rank=8)
    else:
        _, converted = convert_to_lora(trained, rank=8)
    for name, layer in zip(("first", "second"), layers(trained), strict=True):
        B = converted[f"base_model.model.{name}.lora_B.weight"]
        A = converted[f"base_model.model.{name}.lora_A.weight"]
        torch.testing.assert_close(B @ A, delta(layer, "default"), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@every
def test_copies_are_independent(trained, kind, layout, dtype, duplicate):
    twin, x = duplicate(trained), inputs(dtype)
    adapted = trained(x)
    assert torch.equal(twin(x), adapted)
    train(twin.train())
    assert not torch.equal(twin(x), adapted)
    assert torch.equal(trained(x), adapted)


@pytest.mark.parametrize("kind", KINDS)
def test_single_layers_take_their_rank_from_the_pattern(kind):
    model = attach(kind, r=3, rank_pattern={"second": 2})
    assert [layer.r["default"] for layer in layers(model)] == [3, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_modules_to_save_train_and_are_saved(kind, tmp_path):
    model = attach(kind, modules_to_save=["head"])
    train(model)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(Network(), tmp_path)
    assert torch.equal(loaded(inputs()), model(inputs()))
    assert not torch.equal(loaded.base_model.model.head.weight, Network().head.weight)


@pytest.mark.parametrize("kind", OURS)
def test_train_and_eval_return_the_layer(kind):
    for layer in layers(attach(kind)):
        assert layer.train() is layer
        assert layer.eval() is layer


@pytest.mark.parametrize(
    ("kind", "option"), [("lora_xs", "lora_dropout"), ("delora", "module_dropout")]
)
def test_dropout_acts_on_the_adapter_alone_and_in_training_alone(kind, option):
    model = attach(kind, **{option: 0.5})
    layer = layers(model)[0]
    x = inputs()
    assert_is_at_the_start(kind, layer(x), layer.base_layer(x))
    train(model, lr=0.1)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("kind", OURS)
def test_inputs_under_autocast_keep_the_dtype_of_the_base(kind):
    model = attach(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer = layers(model)[0]
        assert layer(inputs()).dtype == layer.base_layer(inputs()).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", OURS)
def test_an_adapter_can_be_loaded_before_its_base(kind, tmp_path):
    model = attach(kind)
    train(model)
    model.save_pretrained(tmp_path)
    with torch.device("meta"):
        skeleton = Network()
    loaded = PeftModel.from_pretrained(skeleton, tmp_path, low_cpu_mem_usage=True)
    base = Network()
    for layer, plain in zip(layers(loaded), (base.first, base.second), strict=True):
        layer.base_layer.load_state_dict(plain.state_dict(), assign=True)
    loaded.base_model.model.head = base.head
    assert torch.equal(loaded(inputs()), model(inputs()))
