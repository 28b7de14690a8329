"""Where W₀ waits between folds, what a fold asks of a device, and that no place changes a digit."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rankwise.core.errors import SettingsError, TrainingError
from rankwise.core.seeds import derive_seed
from rankwise.functional.sketches import sketch
from rankwise.methods.adapters.bridge import adapted_layers
from rankwise.methods.chain import sketches, waiting
from rankwise.methods.chain.callback import ChainCallback
from rankwise.methods.chain.chain import Chain
from tests.launches import counted
from tests.models.chains import base_weights, build, chained, layers, outputs

PLACES = ("auto", "cpu", "device")


class Work(TorchDispatchMode):
    """Counts the operations whose result has the size of a weight, and notes their dtypes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.counts, self.dtypes = size, Counter(), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        is_view = name in ("detach", "t", "view", "transpose", "_unsafe_view", "alias")
        if isinstance(result, torch.Tensor) and result.numel() == self.size and not is_view:
            self.counts[name] += 1
            self.dtypes.add(result.dtype)
        return result


def wide(dtype):
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(48, 64, bias=False, dtype=dtype))
    return get_peft_model(base, LoraConfig(r=2, target_modules=["0"]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("folds", [1, 4])
def test_a_fold_is_a_product_and_a_sum_whatever_the_number_of_blocks(dtype, folds):
    chain = Chain(wide(dtype))
    for _ in range(folds):
        chain.fold()
    with Work(64 * 48) as work:
        chain.fold()
    assert work.counts == {"mm": 1, "add": 1}
    assert work.dtypes == {torch.float32, dtype}


def test_a_fold_waits_for_one_answer_of_all_layers_and_starts_few_operations_in_each():
    layers = 12
    base = nn.Sequential(*(nn.Linear(48, 48, dtype=torch.bfloat16) for _ in range(layers)))
    model = get_peft_model(base, LoraConfig(r=2, target_modules=r"\d+"))
    chain = Chain(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    model(torch.ones(2, 48, dtype=torch.bfloat16)).sum().backward()
    optimizer.step()
    with counted() as (started, asked):
        chain.fold(optimizer)
    assert asked == {"tolist": 1}
    # Copies of the block, ways back, a draw, a product, a sum, a norm, what is written.
    assert started.total() <= 17 * layers + 1, started


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_one_layer_that_does_not_fit_its_weight_is_named_and_nothing_is_folded(dtype):
    base = nn.Sequential(*(nn.Linear(8, 8, dtype=dtype) for _ in range(3)))
    model = get_peft_model(base, LoraConfig(r=2, target_modules=r"\d+"))
    before = [weight.clone() for weight in base_weights(model)]
    chain = Chain(model)
    A = adapted_layers(model)["base_model.model.1"].lora_A["default"].weight
    nn.init.constant_(A, torch.finfo(dtype).max)
    with pytest.raises(TrainingError, match=r"its torch\.\w+, in base_model\.model\.1;"):
        chain.fold()
    assert all(map(torch.equal, base_weights(model), before))


def test_no_copy_of_the_weight_in_another_dtype_is_kept():
    model = wide(torch.bfloat16)
    chain = Chain(model)
    chain.fold()
    (layer,) = adapted_layers(model).values()
    assert layer.history.nbytes == 64 * 48 * 2 + 2 * (64 + 48) * 4


@pytest.mark.parametrize("place", PLACES)
def test_no_place_changes_a_digit(place):
    expected, model = build(), build()
    chained(expected)
    chain = chained(model, base_device=place)
    assert torch.equal(outputs(model), outputs(expected))
    chain.finish()
    assert all(map(torch.equal, base_weights(model), base_weights(build())))


def test_an_unknown_place_is_refused_and_changes_nothing():
    model = build()
    for make in (Chain, lambda model, **options: ChainCallback(model, every=1, **options)):
        with pytest.raises(SettingsError, match="no base_device 'gpu'; did you mean 'cpu'"):
            make(model, base_device="gpu")
    assert len([p for p in model.parameters() if p.requires_grad]) == 4


def test_a_callback_hands_the_place_on():
    assert ChainCallback(build(), every=1, base_device="cpu").chain._base_device == "cpu"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["gaussian", "kaiming", "selector", "orthonormal"])
def test_sketches_that_are_drawn_in_threads_are_those_of_their_seeds(monkeypatch, side, kind):
    monkeypatch.setattr(sketches, "_are_beside_accelerator", lambda _: True)
    model = build()
    chain = Chain(model, side=side, sketch=kind, seed=5)
    chain.fold()
    for name, layer in layers(model).items():
        drawn = chain._sketcher.draw(name, layer, 1)
        factor = "B" if side == "left" else "A"
        part = layer.lora_B if factor == "B" else layer.lora_A
        assert torch.equal(part["default"].weight, drawn[factor])
        generator = torch.Generator().manual_seed(derive_seed(5, name, 1))
        shape = layer.out_features, layer.in_features
        again = sketch(shape, 2, side=side, kind=kind, generator=generator)
        assert torch.equal(drawn[factor], again)


# --- on an accelerator ---------------------------------------------------------------------------


def on_cuda(dtype=torch.float32):
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Linear(n, n + 8, dtype=dtype) for n in (64, 72, 80, 88)))
    return get_peft_model(network, LoraConfig(r=2, target_modules=list("0123"))).to("cuda")


def states(place, *, dtype=torch.float32, move_later=False, folds=3):
    model = on_cuda(dtype)
    if move_later:
        model.cpu()
    chain = Chain(model, base_device=place)
    model.cuda()
    before = [layer.history.base.clone() for layer in adapted_layers(model).values()]
    weights = []
    for fold in range(folds):
        for number, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
            generator = torch.Generator().manual_seed(10 * fold + number)
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
        chain.fold()
        weights.append([layer.weight.detach().clone() for layer in adapted_layers(model).values()])
    devices = {layer.history.device.type for layer in adapted_layers(model).values()}
    chain.finish()
    for layer, base in zip(adapted_layers(model).values(), before, strict=True):
        assert torch.equal(layer.weight, base.to(layer.weight.device))
    return weights, devices


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("move_later", [False, True])
def test_all_places_give_the_same_weights_on_an_accelerator(dtype, move_later):
    found = {place: states(place, dtype=dtype, move_later=move_later) for place in PLACES}
    expected, _ = found["device"]
    for place in PLACES:
        torch.testing.assert_close(found[place][0], expected, rtol=0, atol=0)
    assert [found[place][1] for place in PLACES] == [{"cuda"}, {"cpu"}, {"cuda"}]


@pytest.mark.cuda
def test_where_there_is_no_room_it_waits_in_pinned_memory(monkeypatch):
    monkeypatch.setattr(waiting, "_SHARE_OF_ROOM", 0.0)
    weights, devices = states("auto")
    assert devices == {"cpu"}
    torch.testing.assert_close(weights, states("device")[0], rtol=0, atol=0)


@pytest.mark.cuda
def test_what_waits_on_the_cpu_is_pinned():
    model = on_cuda()
    Chain(model, base_device="cpu")
    assert all(layer.history.base.is_pinned() for layer in adapted_layers(model).values())


@pytest.mark.cuda
def test_weights_differ_from_those_of_a_cpu_by_rounding_alone():
    model = on_cuda().cpu()
    chain = Chain(model)
    chain.fold()
    twin = on_cuda()
    other = Chain(twin)
    other.fold()
    for one, two in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, two.cpu())
    for name, layer in adapted_layers(model).items():
        sketch = layer.lora_B["default"].weight
        assert torch.equal(sketch, twin.get_submodule(name).lora_B["default"].weight.cpu())
