"""What an optimizer knows of a block is forgotten at the fold, or the fold is refused by name."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from torch import distributed, nn
from torch.optim.swa_utils import AveragedModel

from rankwise.core.errors import ChainError, ModelError, TrainingError
from rankwise.methods.chain.callback import ChainCallback
from rankwise.methods.chain.chain import Chain
from tests.models.chain_trainers import make_trainer
from tests.models.chains import (
    build,
    chained,
    inputs,
    layers,
    optimizer_of,
    outputs,
    train,
    trained,
)


def class_of(package: str, name: str, *bases: type, **members) -> type:
    """A class that says it is of another package."""
    return type(name, bases or (object,), {"__module__": f"{package}.optim", **members})


others_warn = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


# --- forgotten -----------------------------------------------------------------------------------


@pytest.fixture
def one_process(tmp_path):
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


def sharded(parameters):
    from torch.distributed.optim import ZeroRedundancyOptimizer  # which warns of itself

    return ZeroRedundancyOptimizer(parameters, optimizer_class=torch.optim.AdamW, lr=0.05)


@others_warn
def test_zero_redundancy_forgets_inside(one_process):
    model = build()
    chain = Chain(model, side="both")
    optimizer = sharded(trained(model))
    train(model, optimizer)
    assert len(optimizer.optim.state) == 4
    chain.fold(optimizer)
    assert not optimizer.optim.state
    train(model, optimizer)
    assert {float(state["step"]) for state in optimizer.optim.state.values()} == {3.0}


class HandsOn(torch.optim.Optimizer):
    """Does something to gradients, such as adding noise, and has no memory of its own."""

    def __init__(self, optimizer) -> None:
        self.original_optimizer = optimizer

    @property
    def state(self):
        return self.original_optimizer.state

    @property
    def param_groups(self):
        return self.original_optimizer.param_groups

    def zero_grad(self, set_to_none=True):
        self.original_optimizer.zero_grad(set_to_none)

    def step(self, closure=None):
        self.original_optimizer.step(closure)


WRAPPED = {
    "accelerate": lambda optimizer: Accelerator(cpu=True).prepare(optimizer),
    "noise": HandsOn,
    "twice": lambda optimizer: HandsOn(Accelerator(cpu=True).prepare(optimizer)),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_wrapper_that_hands_on_the_state_is_seen_through(kind):
    model = build()
    chain = Chain(model, side="both")
    inner = optimizer_of(model)
    optimizer = WRAPPED[kind](inner)
    train(model, optimizer)
    assert len(inner.state) == 4
    chain.fold(optimizer)
    assert not inner.state


def test_lbfgs_forgets_its_one_history_though_it_lies_at_another_parameter():
    model = build(modules_to_save=["second"], target_modules=["first"])
    chain = Chain(model)
    factor, *others = trained(model)
    optimizer = torch.optim.LBFGS([*others, factor], lr=0.1, max_iter=3)
    x, labels = inputs(), torch.arange(9) % 5

    def closure():
        optimizer.zero_grad()
        loss = model(x, labels)["loss"]
        loss.backward()
        return loss

    optimizer.step(closure)
    assert factor not in optimizer.state
    assert optimizer.state
    chain.fold(optimizer)
    assert not optimizer.state
    before = outputs(model)
    optimizer.step(closure)
    assert not torch.equal(outputs(model), before)


# --- refused -------------------------------------------------------------------------------------


def masters(model):
    return [nn.Parameter(parameter.detach().clone()) for parameter in trained(model)]


class Holder:
    """Like DeepSpeed's and Megatron's: no optimizer of torch's kind, with groups of copies."""

    def __init__(self, parameters) -> None:
        self.optimizer = torch.optim.AdamW(parameters)

    @property
    def param_groups(self):
        return self.optimizer.param_groups


def deepspeed(model):
    flat = nn.Parameter(torch.cat([each.flatten() for each in trained(model)]).detach())
    return class_of("deepspeed", "DeepSpeedZeroOptimizer", Holder)([flat])


def deepspeed_in_accelerate(model):
    optimizer = optimizer_of(model)
    wrapper = Accelerator(cpu=True).prepare(optimizer)
    wrapper.optimizer = deepspeed(model)
    return wrapper


def apex(model):
    optimizer = torch.optim.AdamW(masters(model))
    optimizer._amp_stash = object()
    return optimizer


def schedule_free(package):
    def make(model):
        optimizer = class_of(package, "AdamWScheduleFree", torch.optim.AdamW)(trained(model))
        for group in optimizer.param_groups:
            group["train_mode"] = True
        return optimizer

    return make


class Lookahead(torch.optim.Optimizer):
    """Keeps slow weights beside the state of the optimizer inside."""

    def __init__(self, optimizer) -> None:
        super().__init__(optimizer.param_groups, {})
        self.inner = optimizer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (deepspeed, r"^deepspeed.DeepSpeedZeroOptimizer trains float32 copies .* DDP or FSDP2"),
        (deepspeed_in_accelerate, "AcceleratedOptimizer trains float32 copies .* DDP or FSDP2"),
        (
            lambda model: class_of("megatron", "MegatronOptimizer", Holder)(masters(model)),
            "^megatron.MegatronOptimizer trains float32 copies .* use an optimizer of torch.optim",
        ),
        (
            lambda model: class_of("apex", "FP16_Optimizer", Holder)(masters(model)),
            "^apex.FP16_Optimizer trains float32 copies .* opt_level O0 or O1",
        ),
        (apex, "^AdamW trains float32 copies .* opt_level O0 or O1"),
        (
            lambda model: torch.optim.AdamW(masters(model)),
            r"AdamW lacks trained factors of the chain and holds others of their shapes\. If it "
            ".*build it after the chain.* if these are float32 copies, .*DeepSpeed ZeRO, apex O2",
        ),
        (schedule_free("schedulefree"), "^schedulefree.AdamWScheduleFree trains another point"),
        (schedule_free("others"), "^others.AdamWScheduleFree trains another point"),
        (
            lambda model: Lookahead(optimizer_of(model)),
            "Lookahead wraps AdamW and remembers parameters beside it, .*`optimizer.inner`",
        ),
        (AveragedModel, "a fold takes the optimizer that trains the factors, got AveragedModel"),
    ],
)
def test_what_cannot_forget_is_refused_by_name_and_changes_nothing(make, message):
    model = build()
    chain = Chain(model, side="left")
    optimizer = make(model)
    learned = outputs(model)
    with pytest.raises(ChainError, match=message):
        chain.fold(optimizer)
    assert chain.folds == 0
    assert torch.equal(outputs(model), learned)


def test_an_optimizer_of_those_libraries_without_copies_is_taken():
    model = build()
    chain = Chain(model)
    optimizer = class_of("apex", "FusedAdam", torch.optim.AdamW)(trained(model))
    train(model, optimizer)
    chain.fold(optimizer)
    assert not optimizer.state


def test_the_trainer_refuses_it_before_the_first_step(tmp_path):
    model = build()
    callback = ChainCallback(model, every=2, reset_optimizer=False)
    optimizers = (torch.optim.AdamW(masters(model)), None)
    trainer = make_trainer(model, tmp_path, callbacks=[callback], optimizers=optimizers)
    with pytest.raises(ChainError, match=r"lacks trained factors .* float32 copies"):
        trainer.train()
    assert trainer.state.global_step == 0
    assert not callback.chain.is_open


def test_a_model_that_averages_is_refused_by_name():
    with pytest.raises(ModelError, match=r"AveragedModel .* make the chain of the model inside"):
        Chain(AveragedModel(build()))


def test_empty_weights_as_of_zero_3_are_refused():
    model = build()
    for layer in layers(model).values():
        layer.get_base_layer().weight.data = torch.empty(0)
    with pytest.raises(ModelError, match="first is empty, as DeepSpeed ZeRO-3 leaves it"):
        Chain(model)


# --- a block that is not finite ------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_a_block_that_is_not_finite_is_refused_and_the_state_before_it_kept(side, value):
    model = build()
    chain = chained(model, folds=1, side=side)
    optimizer = optimizer_of(model)
    train(model, optimizer)
    weights = [layer.get_base_layer().weight.clone() for layer in layers(model).values()]
    steps = len(optimizer.state)
    trained(model)[-1].data[0, 0] = value
    with pytest.raises(TrainingError, match=r"not finite, .* in \S+second; it was not folded"):
        chain.fold(optimizer)
    now = [layer.get_base_layer().weight for layer in layers(model).values()]
    assert all(map(torch.equal, now, weights))
    assert (chain.folds, len(optimizer.state)) == (1, steps)
    chain.finish()


def test_a_block_that_overflows_the_weights_dtype_is_refused():
    model = build(torch.float16)
    chain = Chain(model)
    trained(model)[0].data.fill_(1e5)
    with pytest.raises(TrainingError, match=r"weight in its torch.float16, in \S+first"):
        chain.fold()
    assert chain.folds == 0


def test_a_chain_of_an_adapter_that_is_not_finite_is_refused():
    model = build(init_lora_weights=False)
    trained(model)[0].data[0] = float("nan")
    with pytest.raises(ModelError, match=r"the adapter is not finite, .* in \S+first"):
        Chain(model)
    assert len(trained(model)) == 4
