"""An init or a lent adapter that is interrupted, at any line, leaves the model as it was."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from rankwise.methods.adapters.switching import active_adapter, loaded_adapter
from rankwise.methods.adapters.undrawn import Start
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.networks import classifier

from .lived_in import BATCH, KINDS, are_equal, assert_nothing_bad, lived_in, picture, values

pytestmark = [
    pytest.mark.runs,
    # What is struck between two lines leaves a file or a generator to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

INITS = {
    "update": UpdateApproximation(lr=1e-2),
    "raw": UpdateApproximation(lr=1e-2, mode="raw", decomposition="wide"),
    "boundary": BoundaryMatching(steps=2, layers=["first"]),
}


def run_init(model, init):
    initialize(model, init, [BATCH, BATCH])


def check_init(kind, init):
    """Return what makes a model to start, and what tells whether it is as before or as after."""
    finished = lived_in(kind)
    run_init(finished, init)
    ends = [values(lived_in(kind)), values(finished)]
    assert not are_equal(*ends)

    def make():
        model = lived_in(kind)
        return model, init, picture(model)

    def check(model, _init, before):
        if picture(model) != before:
            return "something beside the adapter is not as before"
        if not any(are_equal(values(model), end) for end in ends):
            return "the adapter is neither as before nor as after"
        return None

    return make, check


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("init", INITS.values(), ids=INITS)
def test_an_interrupted_init_leaves_the_model_before_it_or_after_it(kind, init):
    make, check = check_init(kind, init)
    assert_nothing_bad(make, lambda model, init, _: run_init(model, init), check, stride=67)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("init", INITS.values(), ids=INITS)
def test_so_it_does_at_every_line(kind, init):
    make, check = check_init(kind, init)
    assert_nothing_bad(make, lambda model, init, _: run_init(model, init), check)


def test_asking_for_factors_leaves_the_overriding_of_operators_on_wherever_it_is_interrupted():
    def make():
        torch._C._set_torch_function_state(torch._C._TorchFunctionState.ENABLED)
        layer, factor = torch.nn.Linear(2, 2), torch.nn.Parameter(torch.zeros(2, 2))
        Start(layer, [factor], lambda layer: [layer.weight])
        return layer, factor

    def ask(_layer, factor):
        assert factor.shape == (2, 2)
        factor.sum()

    def check(_layer, _factor):
        return None if torch._C._is_torch_function_enabled() else "no parameter is asked any more"

    try:
        assert_nothing_bad(make, ask, check)
    finally:
        make()  # so that a fault stays here


@pytest.fixture
def lent(tmp_path):
    """Directories of two adapters: on a layer that is adapted, and on one that is not."""
    directories = []
    for targets in (["first"], ["head", "second"]):
        model = get_peft_model(classifier(), LoraConfig(r=2, target_modules=targets))
        directories.append(tmp_path / targets[0])
        model.save_pretrained(directories[-1])
    return directories


@pytest.mark.parametrize("stride", [23, pytest.param(1, marks=pytest.mark.slow)])
def test_an_adapter_that_was_lent_is_gone_wherever_that_is_interrupted(lent, stride):
    for directory in lent:

        def borrow(model, _before, directory=directory):
            with loaded_adapter(model, directory) as name, active_adapter(model, name):
                model(BATCH["x"])

        def make():
            model = lived_in("lora")
            return model, (picture(model), values(model))

        def check(model, before):
            around, kept = before
            if picture(model) != around:
                return "something is not as before"
            return None if are_equal(values(model), kept) else "a value is not as before"

        assert_nothing_bad(make, borrow, check, stride=stride)
