"""What a fused layer costs: operations that start something, dtypes, and what backward keeps."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rankwise.methods.adapters.fused import fuse
from tests.models.adapters import config
from tests.models.fused import CHAINS, adapted, as_beside_an_accelerator

TOKENS, IN, OUT, RANK = 64, 48, 40, 4
# What only makes another view of a tensor, or takes memory.
SILENT = {"view", "t", "transpose", "permute", "slice", "select", "expand", "as_strided", "alias"}
SILENT |= {"detach", "_unsafe_view", "unsqueeze", "lift_fresh", "promote_types", "unbind", "split"}
ALLOCATING = {"empty", "new_empty", "empty_like"}
SILENT |= ALLOCATING


class Operations(TorchDispatchMode):
    """Records the operations that a GPU would start, and the tensors that they make."""

    def __init__(self):
        super().__init__()
        self.names, self.made, self.allocations = [], [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        self.allocations += name in ALLOCATING
        if name not in SILENT:
            self.names.append(name)
            tensors = result if isinstance(result, tuple | list) else (result,)
            self.made += [t for t in tensors if isinstance(t, torch.Tensor)]
        return result


class OneLayer(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(IN, OUT)

    def forward(self, x):
        return self.first(x)


def layer_of(kind, dtype=torch.bfloat16, **options):
    base = OneLayer().to(dtype)
    if kind == "lora":  # so that there is a scaling
        options = {"lora_alpha": 2 * RANK, **options}
    model = get_peft_model(base, config(kind, target_modules=["first"], r=RANK, **options))
    if kind == "lora":
        fuse(model)
    return model.base_model.model.first


def pass_of(layer, x, *, autocast=True):
    """Return the operations of a forward pass and of a backward pass."""
    forward, backward = Operations(), Operations()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), forward:
        y = layer(x)
    dy = torch.ones_like(y)
    with backward:
        torch.autograd.grad(y, [x, *(p for p in layer.parameters() if p.requires_grad)], dy)
    return forward, backward


def tokens(dtype=torch.bfloat16):
    return torch.randn(TOKENS, IN, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize(
    ("kind", "forward", "backward"),
    # A product with W and one added to it, and back: what is more is the adapter.
    [("lora_xs", 5, 6), ("lora", 5, 7), ("delora", 13, 18)],
)
def test_a_layer_takes_a_handful_of_operations(monkeypatch, kind, forward, backward):
    as_beside_an_accelerator(monkeypatch)
    layer = layer_of(kind)
    pass_of(layer, tokens())  # what is made once
    first, second = pass_of(layer, tokens())
    assert len(first.names) <= forward, first.names
    assert len(second.names) <= backward, second.names
    wide = [name for name in (*first.names, *second.names) if "mm" in name]
    assert wide.count("addmm_") == 2


@pytest.mark.parametrize("kind", ["lora_xs", "lora"])
def test_a_scaling_costs_no_operation_and_no_memory(kind):
    def counted(alpha):
        layer = layer_of(kind, lora_alpha=alpha)
        pass_of(layer, tokens())
        return [(sorted(each.names), each.allocations) for each in pass_of(layer, tokens())]

    without, scaled = counted(RANK), counted(3 * RANK)
    assert len(scaled[0][0]) == len(without[0][0])
    assert len(scaled[1][0]) == len(without[1][0])
    assert [each for _, each in scaled] == [each for _, each in without]
    assert "mul" not in scaled[0][0] + scaled[1][0]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kind", ["lora_xs", "lora", "delora"])
def test_nothing_as_large_as_the_inputs_is_made_in_float32(kind, autocast):
    for operations in pass_of(layer_of(kind), tokens(), autocast=autocast):
        large = [t for t in operations.made if t.numel() >= TOKENS * min(IN, OUT)]
        assert large
        assert {t.dtype for t in large} == {torch.bfloat16}


@pytest.mark.parametrize("kind", ["lora_xs", "lora", "delora"])
def test_gradients_are_float32_as_the_factors_are(kind):
    layer, x = layer_of(kind), tokens()
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).sum().backward()
    assert x.grad.dtype == torch.bfloat16
    trained = [p for p in layer.parameters() if p.requires_grad]
    assert {p.grad.dtype for p in trained} == {torch.float32}


def test_frozen_factors_are_cast_once_and_again_when_they_change():
    layer = layer_of("lora_xs")

    @torch.no_grad()
    def change(act):
        act()

    def casts(act=lambda: None):
        change(act)
        return sum(name in ("_to_copy", "copy_") for name in pass_of(layer, tokens())[0].names)

    assert casts() == 3  # B, A and the core
    assert casts() == 1
    B, A = layer.frozen_parts("default").values()
    assert casts(lambda: A.add_(1.0)) == 3
    assert casts(lambda: layer.write_factors("default", B.clone(), torch.eye(RANK), A)) == 3
    assert casts(lambda: layer.load_state_dict(layer.state_dict())) == 3
    assert casts(lambda: setattr(A, "data", A.data.clone())) == 3
    assert casts(lambda: (A.data.mul_(2.0), layer.eval())) == 3
    assert casts(lambda: layer.rankwise_xs_A.double().float()) == 3


def test_what_was_cast_is_what_is_computed_with():
    layer, x = layer_of("lora_xs", torch.float32), torch.randn(3, IN)
    nn.init.normal_(layer.parts("default")[0])
    with torch.autocast("cpu", torch.bfloat16):
        before = layer(x) - layer.base_layer(x)
        _, A = layer.frozen_parts("default").values()
        with torch.no_grad():
            A.mul_(2.0)
        after = layer(x) - layer.base_layer(x)
    torch.testing.assert_close(after, 2 * before, rtol=0.05, atol=0.05)


def test_what_was_made_once_is_neither_copied_nor_stored(monkeypatch, tmp_path):
    as_beside_an_accelerator(monkeypatch)
    layer = layer_of("delora")
    pass_of(layer, tokens())
    assert layer._kept["default"]
    torch.save(layer, tmp_path / "layer.pt")
    loaded = torch.load(tmp_path / "layer.pt", weights_only=False)
    assert not loaded._kept
    x = tokens()
    assert torch.equal(loaded(x), layer(x))


def saved(model, x):
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        model(x)
    return {(*t.shape, t.dtype) for t in kept if t.numel() and not isinstance(t, nn.Parameter)}


@pytest.mark.parametrize("kind", ["lora_xs", "right"])
def test_a_frozen_right_factor_keeps_no_inputs(kind):
    x = torch.randn(7, 12)
    assert (7, 12, torch.float32) not in saved(adapted(kind), x)


def test_on_a_cpu_delora_keeps_one_short_vector_of_an_input_and_no_factors():
    kept = {shape[:-1] for shape in saved(adapted("delora"), torch.randn(7, 12))}
    assert (7, 3) in kept
    assert not any(6 in shape for shape in kept)


@pytest.mark.parametrize("kind", ["delora", *CHAINS])
def test_a_bfloat16_input_is_not_kept_in_float32(kind):
    x = torch.randn(7, 12, dtype=torch.bfloat16)
    assert (7, 12, torch.float32) not in saved(adapted(kind, torch.bfloat16), x)
