"""What borrows a model for a moment gives it back as it was, wherever it is interrupted."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from rankwise.core.modules import in_eval_mode
from rankwise.export.lora import export_lora
from rankwise.export.merged import export_merged
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.fused import fused_lora
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from rankwise.methods.placement import place_ranks
from rankwise.methods.temporary_merge import temporarily_merged
from tests.models.networks import classifier

from .lived_in import BATCH, TARGETS, are_equal, assert_nothing_bad, lived_in, picture, values

pytestmark = [
    pytest.mark.runs,
    # What is struck between two lines leaves a file or a generator to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
strides = pytest.mark.parametrize("stride", [23, pytest.param(1, marks=pytest.mark.slow)])


def evaluate(model):
    with in_eval_mode(model), temporarily_merged(model):
        model(BATCH["x"])


def fuse_meanwhile(model):
    with fused_lora(model.modules()):
        model(BATCH["x"])


def mix_adapters(model):
    with in_eval_mode(model):
        model(BATCH["x"], adapter_names=["default", "__base__", "default", "default", "default"])


LENT = {
    "evaluation, lora": ("lora", evaluate),
    "evaluation, lora_xs": ("lora_xs", evaluate),
    "fusing": ("lora", fuse_meanwhile),
    "adapters by the sample": ("lora_xs", mix_adapters),
}


def frozen_norm(kind):
    """A model whose first layer is in eval mode while the rest trains."""
    model = lived_in(kind)
    model.get_submodule("base_model.model.first").eval()
    return model


class Experts(nn.Module):
    """A stack of two matrices that is read and never called."""

    def __init__(self):
        super().__init__()
        self.stack = nn.Parameter(torch.randn(2, 3, 4))

    def forward(self, x):
        return torch.einsum("eoi,ni->no", self.stack, x)


ROWS = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
EXPERT_KINDS = {"lora_xs": LoraXSConfig, "delora": DeloraConfig}


def experts(kind):
    torch.manual_seed(0)
    options = {"r": 2, "target_modules": [], "target_parameters": ["0.stack"]}
    return get_peft_model(nn.Sequential(Experts()), EXPERT_KINDS[kind](**options)).eval()


def calibrate(model):
    initialize(model, UpdateApproximation(lr=0.1), [ROWS], loss=lambda m, x: m(x).square().mean())


def assert_given_back(make, act, *, stride, kept=""):
    """Hold the model against itself before, of its tensors those with ``kept`` in their name."""

    def look(model):
        return picture(model), {name: v for name, v in values(model).items() if kept in name}

    def start():
        model = make()
        return model, look(model)

    def check(model, before):
        after = look(model)
        if after[0] != before[0]:
            return "something is not as before"
        return None if are_equal(after[1], before[1]) else "a value is not as before"

    assert_nothing_bad(start, lambda model, _: act(model), check, stride=stride)


@strides
@pytest.mark.parametrize("lent", LENT)
def test_a_model_that_was_lent_comes_back(lent, stride):
    kind, act = LENT[lent]
    assert_given_back(lambda: frozen_norm(kind), act, stride=stride)


@strides
def test_a_base_whose_ranks_are_placed_comes_back(stride):
    config = LoraConfig(r=2, target_modules=TARGETS)
    assert_given_back(
        classifier,
        lambda model: place_ranks(model, config, [BATCH], budget=60),
        stride=stride,
    )


@strides
@pytest.mark.parametrize("kind", EXPERT_KINDS)
@pytest.mark.parametrize("act", [lambda model: model(ROWS), calibrate], ids=["pass", "calibration"])
def test_experts_have_their_own_weights_again(kind, act, stride):
    assert_given_back(partial(experts, kind), act, stride=stride, kept="stack")


@strides
@pytest.mark.parametrize("export", [export_lora, export_merged])
def test_an_export_is_whole_or_not_at_all_and_its_model_as_it_was(export, stride, tmp_path):
    folders = iter(tmp_path / str(number) / "exported" for number in range(10**6))
    export(lived_in("lora_xs"), tmp_path / "whole")
    whole = contents(tmp_path / "whole")

    def start():
        model = lived_in("lora_xs")
        return model, next(folders), (picture(model), values(model))

    def check(model, folder, before):
        around, kept = before
        if picture(model) != around or not are_equal(values(model), kept):
            return "the model is not as before"
        if folder.exists() and contents(folder) != whole:
            return f"{sorted(contents(folder))} is not whole"
        beside = [each for each in folder.parent.glob("*") if each != folder]
        return f"{beside[0].name} is left" if beside else None

    assert_nothing_bad(start, lambda model, folder, _: export(model, folder), check, stride=stride)


def contents(folder):
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*.*")}
