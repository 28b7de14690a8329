"""The optimizer's moments at a fold: reset, kept, or carried into the next block's coordinates."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import get_peft_model
from transformers.trainer_utils import set_seed

from rankwise.core.errors import ChainError, SettingsError
from rankwise.functional.moments import turn_between, turned
from rankwise.methods.chain.callback import ChainCallback
from rankwise.methods.chain.chain import Chain
from rankwise.methods.chain.merged_history import FoldedLayer
from tests.models.adapters import KINDS
from tests.models.chain_trainers import StopAt, make_trainer
from tests.models.chains import build, layers, outputs, same, train, trained

OPTIMIZERS = {
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.05, amsgrad=True),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "Muon": lambda parameters: torch.optim.Muon(parameters, lr=0.05),
}
has_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon")
MOVED_BY = [pytest.param(kind, marks=has_muon if kind == "Muon" else ()) for kind in OPTIMIZERS]
SQUARES = ("exp_avg_sq", "max_exp_avg_sq")


def parts(layer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in layer.open_parts().items()}


def states(model, optimizer) -> list[dict]:
    return [copy.deepcopy(dict(optimizer.state[p])) for p in trained(model)]


def expected_turns(old, new, side):
    """Return the trained parts that go on, and the turns at their two sides."""
    match side:
        case "left":
            return {"A": (turn_between(old["B"], new["B"]), None)}
        case "right" | "both":
            return {"B": (None, turn_between(old["A"].T, new["A"].T))}
        case _:
            B, A = "rankwise_xs_B", "rankwise_xs_A"
            turns = turn_between(old[B], new[B]), turn_between(old[A].T, new[A].T)
            return {"rankwise_xs_R": turns}


@pytest.mark.parametrize("kind", MOVED_BY)
@pytest.mark.parametrize("side", ["left", "right", "both", None])
def test_carried_moments_are_those_of_the_weight_seen_through_the_next_sketch(kind, side):
    model = build() if side else xs()
    chain = Chain(model, side=side, sketch="orthonormal")
    optimizer = OPTIMIZERS[kind](trained(model))
    train(model, optimizer)
    before = {
        name: (parts(layer), {k: copy.deepcopy(optimizer.state.get(p)) for k, p in own(layer)})
        for name, layer in layers(model).items()
    }
    chain.fold(optimizer, moments="carried")
    for name, layer in layers(model).items():
        old, kept = before[name]
        turns = expected_turns(old, parts(layer), side)
        for part, parameter in own(layer):
            if part not in turns:
                assert parameter not in optimizer.state
                continue
            for key, value in kept[part].items():
                found = optimizer.state[parameter][key]
                if key != "step":
                    value = turned(value, *turns[part], is_squared=key in SQUARES)
                torch.testing.assert_close(found, value)
    train(model, optimizer)


def own(layer):
    """Return the trained parts of a block."""
    return [(name, part) for name, part in layer.open_parts().items() if part.requires_grad]


def xs():
    config = KINDS["lora_xs"](r=2, target_modules=["first", "second"])
    return get_peft_model(build().unload(), config)


def test_kept_moments_are_those_of_before_and_reset_ones_are_gone():
    model = build()
    chain = Chain(model)
    optimizer = OPTIMIZERS["AdamW"](trained(model))
    train(model, optimizer)
    before = states(model, optimizer)
    chain.fold(optimizer, moments="kept")
    torch.testing.assert_close(states(model, optimizer), before, rtol=0, atol=0)
    chain.fold(optimizer, moments="reset")
    assert not any(parameter in optimizer.state for parameter in trained(model))


def test_a_fold_that_breaks_puts_the_moments_of_before_back(monkeypatch):
    model = build()
    chain = Chain(model)
    optimizer = OPTIMIZERS["AdamW"](trained(model))
    train(model, optimizer)
    before, learned = states(model, optimizer), outputs(model)

    def fail(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(FoldedLayer, "begin_block", fail)
        with pytest.raises(MemoryError):
            chain.fold(optimizer, moments="carried")
    torch.testing.assert_close(states(model, optimizer), before, rtol=0, atol=0)
    assert torch.equal(outputs(model), learned)


def test_what_an_optimizer_keeps_otherwise_is_refused_before_anything_changes():
    model = build()
    chain = Chain(model)
    optimizer = torch.optim.Adagrad(trained(model), lr=0.05)
    train(model, optimizer)
    with pytest.raises(ChainError, match=r"Adagrad keeps 'sum' of a factor.*'reset' or 'kept'"):
        chain.fold(optimizer, moments="carried")
    assert chain.folds == 0
    chain.fold(optimizer)


def test_moments_of_normalised_factors_have_no_coordinates_to_be_carried_into():
    config = KINDS["delora"](r=2, delora_lambda=1.0, target_modules=["first"])
    model = get_peft_model(build().unload(), config)
    with pytest.raises(SettingsError, match="DeLoRA normalises its own"):
        ChainCallback(model, every=2, moments="carried")
    chain = Chain(model)
    with pytest.raises(SettingsError, match="DeLoRA normalises its own"):
        chain.fold(OPTIMIZERS["AdamW"](trained(model)), moments="carried")
    assert chain.folds == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"moments": "forgotten"}, "no moments 'forgotten'"),
        ({"moments": "carried", "reset_optimizer": False}, "leave reset_optimizer out"),
    ],
)
def test_a_callback_refuses_other_words_and_contradictions(options, message):
    model = build()
    with pytest.raises(SettingsError, match=message):
        ChainCallback(model, every=2, **options)
    Chain(model)  # none is open


def run(folder, *, callbacks=(), resume=None):
    set_seed(5)
    model = build()
    chain = ChainCallback(model, every=3, side="left", sketch="orthonormal", moments="carried")
    make_trainer(model, folder, callbacks=[chain, *callbacks]).train(resume_from_checkpoint=resume)
    return model


def test_a_run_with_carried_moments_resumes_exactly(tmp_path):
    whole = run(tmp_path / "whole")
    run(tmp_path / "stopped", callbacks=[StopAt(4)])
    resumed = run(tmp_path / "stopped", resume=True)
    assert same(whole.state_dict().values(), resumed.state_dict().values())
