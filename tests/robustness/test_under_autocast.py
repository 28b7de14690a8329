"""What is computed for good is not rounded where the caller is under autocast.

A forward pass is to be rounded there. Weights, folds, starts and exports are the same, bit for bit,
as outside of it.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn

from rankwise.export.lora import export_lora
from rankwise.export.merged import export_merged
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.chain.chain import Chain
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from rankwise.methods.temporary_merge import temporarily_merged

CONFIGS = {
    "lora": LoraConfig(r=4, target_modules=["first", "last"]),
    "lora_xs": LoraXSConfig(r=4, target_modules=["first", "last"]),
    "delora": DeloraConfig(r=4, delora_lambda=4, target_modules=["first", "last"]),
}
each_kind = pytest.mark.parametrize("kind", CONFIGS)
autocast = torch.autocast("cpu", torch.bfloat16)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(30, 29), nn.Linear(29, 28)

    def forward(self, x):
        return self.last(self.first(x).relu())


def adapted(kind):
    torch.manual_seed(0)
    return stirred(get_peft_model(Network(), CONFIGS[kind]))


def stirred(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def exact_loss(model, x):
    """The loss of a model that does not let itself be rounded."""
    with torch.autocast("cpu", enabled=False):
        return (model(x) ** 2).sum()


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(do):
    """Compare what ``do`` returns, tensors by name, when it works under autocast and outside."""
    outside, under = do(nullcontext()), do(autocast)
    assert outside.keys() == under.keys()
    for name, value in outside.items():
        assert torch.equal(value, under[name]), name


@pytest.mark.parametrize(
    ("kind", "side"), [("lora", "left"), ("lora", "right"), ("lora", "both"), ("lora_xs", None)]
)
def test_folds_and_ends_of_chains(kind, side):
    def do(context):
        model = adapted(kind)
        with context:
            chain = Chain(model, side=side)  # what was learned is the first block
        for _ in range(2):
            stirred(model)
            with context:
                chain.fold()
        folded = state(model)
        with context:
            chain.finish(final_rank=6)
        return {f"folded {name}": value for name, value in folded.items()} | state(model)

    assert_same(do)


@each_kind
@pytest.mark.parametrize(
    "init",
    [
        UpdateApproximation(lr=1e-3),
        UpdateApproximation(lr=1e-3, mode="raw"),
        UpdateApproximation(lr=1e-3, decomposition="wide"),
        BoundaryMatching(margin=0.5, steps=2, layers=["first"]),
    ],
    ids=["signs", "raw", "wide blocks", "boundary"],
)
def test_starts(kind, init):
    def do(context):
        model, batches = adapted(kind), [torch.full((5, 30), 0.1), torch.full((5, 30), 0.2)]
        with context:
            initialize(model, init, batches, loss=exact_loss)
        return state(model)

    assert_same(do)


@each_kind
def test_merged_weights(kind):
    def do(context):
        model = adapted(kind)
        with context, temporarily_merged(model) as is_merged:
            assert is_merged
            return state(model)

    assert_same(do)


@pytest.mark.parametrize("kind", ["lora_xs", "delora"])  # of a LoRA it is PEFT's own
def test_merging_by_peft(kind):
    def do(context):
        model = adapted(kind)
        with context:
            model.merge_adapter()
        return state(model)

    assert_same(do)


@each_kind
def test_exports(kind, tmp_path):
    def do(context):
        model, folder = adapted(kind), tmp_path / type(context).__name__
        with context:
            export_lora(model, folder / "lora")
            export_merged(model, folder / "merged")
        return load_file(folder / "lora/adapter_model.safetensors") | load_file(
            folder / "merged/model.safetensors"
        )

    assert_same(do)


@pytest.mark.parametrize("mode", ["sign", "raw"])
@pytest.mark.parametrize("decomposition", ["narrow", "wide"])
def test_gradients_of_several_batches_add_up(mode, decomposition):
    model, x = adapted("lora_xs"), torch.full((5, 30), 0.1)
    with autocast:
        init = UpdateApproximation(lr=1e-3, mode=mode, decomposition=decomposition)
        report = initialize(model, init, [x, 2 * x], loss=lambda model, x: (model(x) ** 2).sum())
    assert report.outcome.samples == 10
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
