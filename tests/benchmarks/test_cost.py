"""The cost formulas against counts taken from real layers."""

import pytest
import torch
from torch import nn

from tests.benchmarks.scripts import load

cost = load("cost")

SHAPES = [(8, 6), (5, 8)]
SMALL = cost.Decoder(hidden=8, intermediate=12, blocks=2, vocabulary=20, key_value=4)


def test_sums_over_layers():
    assert cost.products(SHAPES) == 48 + 40
    assert cost.sides(SHAPES) == 14 + 13


@pytest.mark.parametrize(
    ("kind", "trained", "fixed"),
    [
        ("lora", 2 * 27, 0),
        ("lora_xs", 2 * 4, 2 * 27),
        ("delora", 2 * 27 + 2, 2 * 27 + 14),
        ("frozen_a", 2 * 13, 2 * 14),
        ("frozen_b", 2 * 14, 2 * 13),
    ],
)
def test_numbers_of_an_adapter(kind, trained, fixed):
    assert cost.adapter_numbers(kind, SHAPES, 2) == (trained, fixed)
    assert cost.state_bytes(kind, SHAPES, 2) == 4 * (4 * trained + fixed)


def test_a_decoder_has_the_weights_of_such_a_model():
    h, m, kv = 8, 12, 4
    block = [nn.Linear(h, h), nn.Linear(h, kv), nn.Linear(h, kv), nn.Linear(h, h)]
    block += [nn.Linear(h, m), nn.Linear(h, m), nn.Linear(m, h)]
    assert SMALL.shapes == 2 * [tuple(layer.weight.shape) for layer in block]
    assert SMALL.weights == 2 * sum(layer.weight.numel() for layer in block) + 2 * 20 * h


def operations(step):
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


@pytest.mark.parametrize("kind", ["lora", "lora_xs", "frozen_a", "frozen_b"])
def test_operations_of_a_step_are_those_that_torch_counts(kind):
    out, in_, r, tokens = 8, 6, 2, 7
    x = torch.randn(tokens, in_, requires_grad=True)
    B, A, R = torch.randn(out, r), torch.randn(r, in_), torch.randn(r, r)
    trained = {"lora": (B, A), "lora_xs": (R,), "frozen_a": (B,), "frozen_b": (A,)}[kind]
    for factor in trained:
        factor.requires_grad_(True)

    def step():
        short = x @ A.T
        if kind == "lora_xs":
            short = short @ R.T
        (short @ B.T).sum().backward()

    assert cost.adapter_step_operations(kind, [(out, in_)], r, tokens) == operations(step)


def test_a_budget_bounds_the_gradients_and_asks_for_passes():
    shapes, gradients = SMALL.shapes, 4 * cost.products(SMALL.shapes)
    one = cost.init_bytes(SMALL, 2, 5)
    assert cost.init_bytes(SMALL, 2, 5, batches=2) == one + gradients
    assert cost.init_bytes(SMALL, 2, 5, batches=2, budget=800) == one + 800
    assert cost.init_bytes(SMALL, 2, 5, processes=2) == one + gradients
    assert cost.init_passes(shapes, batches=2, processes=1, budget=None) == 1
    assert cost.init_passes(shapes, batches=1, processes=1, budget=1) == 1
    assert cost.init_passes(shapes, batches=2, processes=1, budget=gradients // 2) == 2


def test_processes_share_the_decompositions():
    alone, shared = (
        cost.init_operations(SMALL.shapes, SMALL.weights, 2, 5, processes=n) for n in (1, 4)
    )
    assert shared < alone
    twice = cost.init_operations(SMALL.shapes, SMALL.weights, 2, 5, passes=2)
    assert twice == alone + cost.frozen_pass_operations(SMALL.weights, 5)


def test_a_fold_grows_with_the_blocks_and_a_ledger_holds_what_trained():
    assert cost.fold_operations(SHAPES, 2, 3) == 3 * cost.fold_operations(SHAPES, 2, 1)
    assert cost.fold_bytes(SHAPES, size=2) == (2 * 4 * 48, 2 * 88)
    assert cost.checkpoint_bytes("frozen_a", SHAPES, 2, blocks=3) == 4 * 3 * 2 * 13
    assert cost.checkpoint_bytes("delora", SHAPES, 2) == 4 * (2 * 54 + 2 + 14)


@pytest.mark.parametrize("function", [cost.adapter_numbers, cost.adapter_step_operations])
def test_an_unknown_kind_is_refused(function):
    with pytest.raises(ValueError, match="kind must be a known adapter, got 'dora'"):
        function("dora", SHAPES, 2, *([1] if function is cost.adapter_step_operations else []))
