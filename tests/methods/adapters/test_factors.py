"""The tensors of our adapters: their names, what is frozen, and dtypes that others have changed."""

from __future__ import annotations

import contextlib
import os

import pytest
import torch
import torch.distributed as distributed
from peft import PeftModel, get_peft_model
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rankwise.export.lora import export_lora
from rankwise.methods.adapters.bridge import adapted_layers, delta, freeze, weight_of
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.adapters import attach, config, inputs, layers, train
from tests.models.networks import Network

OURS = pytest.mark.parametrize("kind", ["lora_xs", "delora"])
FROZEN = {
    "lora_xs": {"rankwise_xs_B", "rankwise_xs_A"},
    "delora": {"rankwise_decoupled_A0", "rankwise_decoupled_B0", "rankwise_decoupled_norms"},
}


def own(model):
    return {name: p for name, p in model.named_parameters() if "rankwise_" in name}


@OURS
def test_every_tensor_is_a_parameter_named_as_those_of_peft_are(kind):
    model = attach(kind)
    assert not list(model.buffers())
    assert own(model)
    assert all(name.endswith(".default.weight") for name in own(model))


@OURS
def test_frozen_factors_are_declared_and_stay_frozen(kind):
    model = attach(kind)
    model.add_adapter("other", config(kind))

    def frozen():
        return {name.split(".")[-3] for name, p in own(model).items() if not p.requires_grad}

    for layer in layers(model):
        assert set(layer.frozen_peft_weight_names["default"]) == FROZEN[kind]
    for name in ("other", "default"):
        model.set_adapter(name)
        model.set_requires_grad(name)
        trained = {n for n, p in own(model).items() if p.requires_grad}
        assert trained
        assert all(f".{name}." in each for each in trained)
        assert not [each for each in trained if each.split(".")[-3] in FROZEN[kind]]
        with model.disable_adapter():
            assert not [n for n, p in own(model).items() if p.requires_grad]
        assert frozen() >= FROZEN[kind]
    model.delete_adapter("other")
    assert set(layers(model)[0].frozen_peft_weight_names) == {"default"}


def test_a_part_that_was_frozen_is_thawed_and_a_frozen_factor_is_not():
    model = attach("delora")
    layer = layers(model)[0]
    freeze(layer, "default", layer.strength_names)
    model.set_adapter("default")
    assert not layer.parts("default")[2].requires_grad
    freeze(layer, "default", ())
    model.set_adapter("default")
    assert [part.requires_grad for part in layer.parts("default")] == [True] * 3 + [False] * 3


@OURS
def test_peft_reports_types_and_what_trains(kind):
    status = attach(kind).get_model_status()
    names = {"lora_xs": "RANKWISE_XS", "delora": "RANKWISE_DECOUPLED"}
    assert status.peft_types == {"default": names[kind]}
    assert status.requires_grad == {"default": True}
    assert status.devices == {"default": ["cpu"]}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@OURS
def test_without_autocast_adapter_dtype_factors_take_the_dtype_of_the_base(kind, dtype, tmp_path):
    torch.manual_seed(2)
    model = get_peft_model(Network(dtype=dtype), config(kind), autocast_adapter_dtype=False)
    assert {p.dtype for p in own(model).values()} == {dtype}
    if kind == "delora":
        assert torch.equal(model(inputs(dtype)), Network(dtype=dtype)(inputs(dtype)))
    model.add_adapter("wide", config(kind))
    assert {p.dtype for name, p in own(model).items() if ".wide." in name} == {torch.float32}
    model.save_pretrained(tmp_path)
    for low_cpu_mem_usage in (False, True):
        loaded = PeftModel.from_pretrained(
            Network(dtype=dtype),
            tmp_path,
            autocast_adapter_dtype=False,
            low_cpu_mem_usage=low_cpu_mem_usage,
        )
        assert {p.dtype for p in own(loaded).values()} == {dtype}
        assert torch.equal(loaded(inputs(dtype)), model(inputs(dtype)))


def cast_what_trains(model):
    """As TRL does with a quantised model, and whoever sets ``.data``."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)


AUTOCAST = {"plain": contextlib.nullcontext, "autocast": lambda: torch.autocast("cpu")}


@pytest.mark.parametrize("context", AUTOCAST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@OURS
def test_factors_of_several_dtypes_compute_train_and_merge(kind, dtype, context):
    model = attach(kind, dtype=dtype)
    train(model, lr=0.05)
    expected = model(inputs(dtype)).float()
    cast_what_trains(model)
    with AUTOCAST[context]():
        actual = model(inputs(dtype)).float()
        actual.square().mean().backward()
    torch.testing.assert_close(actual, expected, rtol=0.05, atol=0.05)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.grad.dtype for p in trained} == {torch.bfloat16}
    assert all(p.grad.isfinite().all() for p in trained)
    train(model)
    adapted = model(inputs(dtype)).float()
    model.merge_adapter(safe_merge=True)
    torch.testing.assert_close(model(inputs(dtype)).float(), adapted, rtol=0.05, atol=0.05)


@OURS
def test_factors_of_several_dtypes_are_saved_loaded_exported_and_initialised(kind, tmp_path):
    model = attach(kind)
    train(model, lr=0.05)
    cast_what_trains(model)
    adapted = model(inputs())
    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(Network(), tmp_path / "adapter")
    assert {p.dtype for p in own(loaded).values()} == {torch.float32}
    torch.testing.assert_close(loaded(inputs()), adapted, rtol=1e-2, atol=1e-2)
    export_lora(model, tmp_path / "lora")
    exported = PeftModel.from_pretrained(Network(), tmp_path / "lora")
    torch.testing.assert_close(exported(inputs()), adapted, rtol=1e-2, atol=1e-2)

    init = UpdateApproximation(lr=0.01)
    initialize(model, init, [inputs()], loss=lambda model, x: model(x).square().sum())
    changes = [delta(layer, "default").abs().max() for layer in adapted_layers(model).values()]
    assert all(change.isfinite() for change in changes)


@pytest.fixture
def one_process(tmp_path):
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


@pytest.mark.skipif(os.name == "nt", reason="gloo")
@OURS
def test_ddp_sends_no_frozen_factor_in_a_forward_pass(kind, one_process):
    wrapped = DistributedDataParallel(attach(kind))
    assert wrapped.modules_buffers == []
    wrapped(inputs()).square().mean().backward()
    assert all(p.grad is not None for p in wrapped.parameters() if p.requires_grad)


def test_a_trained_factor_that_is_read_is_no_leaf_for_the_wrapping_policy_of_fsdp():
    """PEFT's policy shards each leaf with a trained weight for itself."""
    for module in attach("delora").modules():
        if not list(module.children()) and isinstance(
            getattr(module, "weight", None), nn.Parameter
        ):
            assert not module.weight.requires_grad


class Bringing(dict):
    """Stands for DeepSpeed's, which brings a parameter when it is asked for by ``[name]``."""

    def __getitem__(self, name):
        brought = super().__getitem__(name)
        brought.is_here = True
        return brought


def test_a_weight_is_asked_for_so_that_it_is_brought():
    factor = layers(attach("lora_xs"))[0].rankwise_xs_R["default"]
    factor._parameters = Bringing(factor._parameters)
    assert weight_of(factor).is_here


def test_a_weight_that_is_no_parameter_meanwhile_is_found():
    factor = layers(attach("lora_xs"))[0].rankwise_xs_R["default"]
    view = factor._parameters.pop("weight").detach()
    factor.__dict__["weight"] = view  # as FSDP does while a layer computes
    assert weight_of(factor) is view
