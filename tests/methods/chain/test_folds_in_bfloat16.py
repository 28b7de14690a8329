"""Many folds of a low-precision layer: no drift, and no more held than is promised."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from rankwise.methods.adapters.bridge import adapted_layers, adapter_parameters
from rankwise.methods.chain.chain import Chain

FOLDS = 200


def folded(side):
    """A bfloat16 layer after many small blocks, and the exact sum of its weight and them."""
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(24, 16, dtype=torch.bfloat16))
    model = get_peft_model(base, LoraConfig(r=2, lora_alpha=2, target_modules=["0"]))
    (layer,) = adapted_layers(model).values()
    total = layer.get_base_layer().weight.detach().double().clone()
    chain = Chain(model, side=side)
    for _ in range(FOLDS):
        parts = adapter_parameters(layer, "default")
        with torch.no_grad():
            for part in parts.values():
                if part.requires_grad:
                    part.normal_(std=1e-3)
            total += parts["lora_B"].double() @ parts["lora_A"].double()
        chain.fold()
    return layer, chain, total


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_two_hundred_folds_end_within_one_rounding_of_the_exact_sum(side):
    layer, chain, total = folded(side)
    weight = layer.get_base_layer().weight
    assert chain.folds == FOLDS
    assert weight.dtype == torch.bfloat16
    rounded = total.bfloat16()
    spacing = torch.nextafter(rounded.abs(), torch.tensor(torch.inf).bfloat16()) - rounded.abs()
    assert ((weight.double() - total).abs() <= spacing.double()).all()
    # Nearly all are the nearest number; float32 sums of 200 terms decide a tie otherwise at times.
    assert (weight == rounded).float().mean() > 0.99


def test_blocks_too_small_for_a_rounding_each_add_up():
    layer, _, total = folded("right")
    start = layer.history.base
    assert (layer.get_base_layer().weight - start).abs().max() > 0
    naive = start.clone()
    for B, A in layer.history.blocks:
        naive += (B @ A).bfloat16()
    error, naive_error = (
        (each.double() - total).norm() for each in (layer.get_base_layer().weight, naive)
    )
    assert error < naive_error / 3


def test_an_open_chain_holds_one_copy_of_the_weight_in_its_own_dtype_in_main_memory():
    layer, _, _ = folded("right")
    weight, base = layer.get_base_layer().weight, layer.history.base
    assert (base.dtype, base.device.type, base.shape) == (torch.bfloat16, "cpu", weight.shape)
    tensors = [tensor for block in layer.history.blocks for tensor in block]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    assert sum(tensor.numel() for tensor in tensors) == FOLDS * 2 * (24 + 16)
