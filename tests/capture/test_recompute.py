"""Blocks that are run again in the backward pass: less is kept, and nothing else changes."""

import contextlib

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers.pytorch_utils import Conv1D

from rankwise.capture import gradients
from rankwise.capture.gradients import capture_gradients
from rankwise.capture.losses import summed_loss
from rankwise.capture.recompute import recomputed_blocks
from rankwise.core.errors import ModelError

from .networks import bert, gpt2, llama, sentences, t5


def captured(model, batch):
    layers = {
        name: each
        for name, each in model.named_modules()
        if isinstance(each, nn.Linear | Conv1D) and "lm_head" not in name
    }
    found = {}
    capture_gradients(model, layers, batches=[batch], consume=found.__setitem__)
    return found


@pytest.mark.parametrize("make", [llama, gpt2, t5, bert])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_gradients_are_the_same_bit_by_bit(make, attention, monkeypatch):
    model, batch = make().float().requires_grad_(False), sentences(3)
    if make is bert:
        batch["labels"] = torch.arange(3) % 3
    model.set_attn_implementation(attention)
    again = captured(model, batch)
    monkeypatch.setattr(gradients, "recomputed_blocks", lambda _: contextlib.nullcontext())
    kept = captured(model, batch)
    assert again.keys() == kept.keys()
    for name, gradient in kept.items():
        assert torch.equal(again[name], gradient), name


# torch 2.15 says that a coming version will let them see what a block keeps, too.
@pytest.mark.filterwarnings("ignore:A saved_tensors_hooks context:FutureWarning")
@pytest.mark.parametrize("make", [llama, gpt2, t5])
def test_a_block_keeps_less_between_the_passes(make):
    model, batch = make().requires_grad_(True).eval(), sentences(3)
    plain = kept_bytes(model, batch)
    with recomputed_blocks(model):
        assert kept_bytes(model, batch) < plain


def kept_bytes(model, batch):
    """Bytes that stay alive for the backward pass, found by freeing them."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        summed_loss(model, batch)
    return sum(storages.values())


def test_matrix_products_are_made_once(monkeypatch):
    model, batch = llama().requires_grad_(False), sentences(3)
    again = operations(model, batch)
    monkeypatch.setattr(gradients, "recomputed_blocks", lambda _: contextlib.nullcontext())
    assert again == operations(model, batch) > 0


def operations(model, batch):
    with FlopCounterMode(display=False) as counter:
        captured(model, batch)
    return counter.get_total_flops()


@pytest.mark.parametrize("make", [llama, t5])
def test_caches_and_forward_methods_come_back_also_after_an_error(make):
    model = make()
    before = {name: dict(module.__dict__) for name, module in model.named_modules()}
    assert model.config.use_cache
    with contextlib.suppress(ZeroDivisionError), recomputed_blocks(model):
        assert not model.config.use_cache
        raise ZeroDivisionError
    assert model.config.use_cache
    for name, module in model.named_modules():
        assert module.__dict__.keys() == before[name].keys(), name


def test_a_forward_method_of_its_own_is_kept():
    model, batch = llama().requires_grad_(False), sentences(3)
    block = model.model.layers[0]
    calls, plain = [], block.forward

    def counted(*positional, **named):
        calls.append(1)
        return plain(*positional, **named)

    block.forward = counted
    captured(model, batch)
    assert len(calls) == 2, "once forward, once again"
    assert block.forward is counted


def test_an_input_that_a_block_changes_in_place_between_two_uses_is_refused(monkeypatch):
    model, batch = llama().requires_grad_(False), sentences(3)
    mlp = model.model.layers[0].mlp

    def spoiled(x):
        gate = mlp.act_fn(mlp.gate_proj(x))
        x.mul_(2)
        return mlp.down_proj(gate * mlp.up_proj(x))

    monkeypatch.setattr(mlp, "forward", spoiled)
    with pytest.raises(ModelError, match="gate_proj was changed in place after it was used"):
        captured(model, batch)
