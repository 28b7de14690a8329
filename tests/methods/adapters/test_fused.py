"""The fused layers against their plain form, which a hook on the base layer brings back."""

import copy
import itertools
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from rankwise.methods.adapters.lora_xs import LoraXSLinear
from rankwise.methods.chain.chain import Chain
from tests.models.adapters import attach, inputs, layers, train

KINDS = ("lora_xs", "delora", "right", "left", "both")
ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def adapted(kind, dtype=torch.float32):
    if kind in ("lora_xs", "delora"):
        options = {"lora_alpha": 6} if kind == "lora_xs" else {}
        model = attach(kind, dtype=dtype, **options)
        train(model)
        return model
    model = attach("lora", dtype=dtype, lora_alpha=6)
    chain = Chain(model, side=kind)
    train(model)
    chain.fold()
    train(model)
    return model


def plain(model):
    """The same model with hooks that do nothing, so that no layer is fused."""
    model = copy.deepcopy(model)
    for layer in layers(model):
        layer.get_base_layer().register_forward_hook(lambda *_: None)
    return model


def fused_calls(model):
    """Count the steps of autograd that hold a whole layer."""
    names = []
    output = model(inputs(next(model.parameters()).dtype))
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None:
            names.append(type(node).__name__)
            waiting += [parent for parent, _ in node.next_functions]
    return sum(name.startswith("_Fused") for name in set(names))


def results(model, x):
    """The output, the gradient of the input and that of everything that trains."""
    model.zero_grad()
    x = x.clone().requires_grad_(True)
    output = model(x)
    output.float().square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    return {"output": output, "x": x.grad, **gradients}


@pytest.mark.parametrize(("kind", "dtype"), [*itertools.product(KINDS, ROUNDING)])
def test_outputs_and_all_gradients_equal_those_of_the_plain_form(kind, dtype):
    model = adapted(kind, dtype)
    x = inputs(dtype).view(1, 7, 12)
    actual, expected = results(model, x), results(plain(model), x)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype, name
        error = (actual[name] - value).double().norm() / value.double().norm()
        assert error <= ROUNDING[dtype], name


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_plain_is_fused_and_what_is_more_is_not(kind):
    model = adapted(kind)
    assert fused_calls(model) == 1
    assert fused_calls(plain(model)) == 0
    layers(model)[0].get_base_layer().weight.requires_grad_(True)
    layers(model)[1].get_base_layer().register_full_backward_hook(lambda *_: None)
    assert fused_calls(model) == 0


@pytest.mark.parametrize("kind", ["lora_xs", "delora"])
def test_dropout_mixtures_and_autocast_take_the_plain_form(kind):
    dropout = {"lora_xs": "lora_dropout", "delora": "module_dropout"}[kind]
    model = attach(kind, **{dropout: 0.5})
    train(model)
    assert fused_calls(model.train()) == 0
    assert fused_calls(model.eval()) == 1
    with torch.autocast("cpu"):
        assert fused_calls(model) == 0


def saved_shapes(model, x):
    shapes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: shapes.append(t) or t, lambda t: t):
        model(x)
    return {(*t.shape, t.dtype) for t in shapes if t.numel() and not isinstance(t, nn.Parameter)}


@pytest.mark.parametrize("kind", ["lora_xs", "right"])
def test_a_frozen_right_factor_keeps_no_inputs(kind):
    x = inputs()
    assert (7, 12, torch.float32) not in saved_shapes(adapted(kind), x)


def test_a_bfloat16_input_is_not_kept_in_float32():
    x = inputs(torch.bfloat16)
    shapes = saved_shapes(adapted("delora", torch.bfloat16), x)
    assert (7, 12, torch.bfloat16) in shapes
    assert (7, 12, torch.float32) not in shapes


def test_a_second_derivative_is_refused_and_not_wrong():
    model, x = adapted("lora_xs"), inputs().requires_grad_(True)
    (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
    assert isinstance(layers(model)[0], LoraXSLinear)


@pytest.mark.parametrize("kind", KINDS)
def test_they_go_through_selective_checkpointing_as_the_plain_form_does(kind):
    model = adapted(kind)
    kept = [torch.ops.aten.mm.default, torch.ops.aten.addmm.default]

    def checkpointed(model):
        contexts = partial(create_selective_checkpoint_contexts, kept)
        return lambda x: checkpoint(model, x, use_reentrant=False, context_fn=contexts)

    def gradients(model, run):
        model.zero_grad()
        run(inputs(torch.float32)).square().sum().backward()
        return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}

    expected = gradients(model, model)
    torch.testing.assert_close(gradients(model, checkpointed(model)), expected, rtol=0, atol=0)
