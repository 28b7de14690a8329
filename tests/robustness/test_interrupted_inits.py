"""An init or a lent adapter that is interrupted, at any line, leaves the model as it was."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.adapters.switching import active_adapter, loaded_adapter
from rankwise.methods.adapters.undrawn import Start
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from tests.models.networks import classifier

from .interrupter import keyboard_interrupt, runtime_error, sweep

pytestmark = [
    pytest.mark.runs,
    # What is struck between two lines leaves a file or a generator to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TARGETS = ["first", "second"]
KINDS = {
    "lora": lambda: LoraConfig(r=2, target_modules=TARGETS),
    "lora_xs": lambda: LoraXSConfig(r=2, target_modules=TARGETS),
}
INITS = {
    "update": UpdateApproximation(lr=1e-2),
    "raw": UpdateApproximation(lr=1e-2, mode="raw", decomposition="wide"),
    "boundary": BoundaryMatching(steps=2, layers=["first"]),
}


def picture(model):
    """Everything of a model that an init or a lent adapter must leave alone, but for the values."""
    around = {
        name: (module.training, sorted(vars(module)), len(module._forward_hooks),
               len(module._forward_pre_hooks), sorted(module._modules), sorted(module._parameters),
               sorted(module._buffers), getattr(module, "_disable_adapters", None),
               list(getattr(module, "_active_adapter", [])))
        for name, module in model.named_modules()
    }  # fmt: skip
    trained = {
        name: (id(p), p.requires_grad, None if p.grad is None else p.grad.tolist())
        for name, p in model.named_parameters()
    }
    ambient = (torch.get_rng_state().tolist(), torch.is_grad_enabled())
    return around, trained, ambient, sorted(model.peft_config), model.active_adapters


def values(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def are_equal(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def lived_in(kind):
    """A model with gradients, a frozen head and an adapter that has moved."""
    torch.manual_seed(0)
    model = get_peft_model(classifier(), KINDS[kind]())
    for number, parameter in enumerate(model.parameters()):
        if parameter.requires_grad:
            parameter.data.add_(0.1 * number)
            parameter.grad = torch.ones_like(parameter)
    return model


BATCH = {
    "x": torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
    "labels": torch.tensor([0, 1, 2, 0, 1]),
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


def assert_nothing_bad(make, act, check, **options):
    for strike in (keyboard_interrupt, runtime_error):
        faults = sweep(
            make,
            lambda state: act(*state),
            lambda state, _is_done: check(*state),
            strike=strike,
            **options,
        )
        assert not faults


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
