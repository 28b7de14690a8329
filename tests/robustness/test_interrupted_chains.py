"""An exception at any moment of what a chain does to a model leaves the state before, or after.

KeyboardInterrupt at each line, Ctrl-C at each line, and RuntimeError out of each call of torch and
PEFT. A repeated call then does what the first was to do.
"""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from rankwise.capture.gradients import capture_gradients
from rankwise.methods.adapters.bridge import adapted_layers, base_weight
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.chain.chain import Chain
from rankwise.methods.chain.fold_steps import FoldBelow
from rankwise.methods.chain.share_watch import ShareWatch

from .interrupter import CALLS, LINES, ctrl_c, keyboard_interrupt, runtime_error, sweep

ATTACKS = {
    "KeyboardInterrupt": {"moments": LINES, "strike": keyboard_interrupt},
    "Ctrl-C": {"moments": LINES, "strike": ctrl_c},
    "RuntimeError": {"moments": CALLS, "strike": runtime_error},
}
pytestmark = [
    pytest.mark.runs,
    # What is struck between two lines leaves a file or a generator to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
# A few of the moments always, all of them where there is time.
attacks = pytest.mark.parametrize(
    "attack",
    [
        pytest.param(
            {**attack, "stride": stride},
            marks=pytest.mark.slow if stride == 1 else (),
            id=f"{name}, every {stride}",
        )
        for stride in (41, 1)
        for name, attack in ATTACKS.items()
    ],
)
X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


@dataclass
class Ground:
    """A model amid its training, with or without a chain."""

    model: PeftModel
    optimizer: torch.optim.Optimizer | None = None
    chain: Chain | None = None
    report: Any = None

    def train(self) -> None:
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = self.optimizer or torch.optim.AdamW(trained, lr=0.1)
        for _ in range(2):
            self.model(X).square().sum().backward()
            self.optimizer.step()
        # Gradients are left, so that what takes them away is seen.

    def fold(self) -> None:
        self.chain.fold(self.optimizer, step=9)

    def copy(self) -> Ground:
        twin = copy.deepcopy(self)
        pairs = zip(self.model.parameters(), twin.model.parameters(), strict=True)
        for one, other in pairs:  # which a copy leaves out
            other.grad = None if one.grad is None else one.grad.clone()
        return twin

    def state(self) -> dict[str, Any]:
        """All that a chain could change."""
        layers = adapted_layers(self.model).values()
        parameters = dict(self.model.named_parameters())
        moments = self.optimizer.state if self.optimizer else {}
        config = self.model.peft_config["default"]
        return {
            "tensors": {name: value.tolist() for name, value in self.model.state_dict().items()},
            "trained": {name for name, each in parameters.items() if each.requires_grad},
            "with gradient": {name for name, each in parameters.items() if each.grad is not None},
            "with moments": {name for name, each in parameters.items() if each in moments},
            "classes": [type(layer) for layer in layers],
            "histories": [
                len(layer.history.blocks) if hasattr(layer, "history") else None for layer in layers
            ],
            "frozen": [dict(layer.frozen_peft_weight_names) for layer in layers],
            "sizes": [(layer.r["default"], layer.scaling["default"]) for layer in layers],
            "alphas": [getattr(layer, "lora_alpha", None) for layer in layers],
            "shapes": {name: tuple(each.shape) for name, each in parameters.items()},
            "fold steps": self.chain.fold_steps if self.chain else (),
            "config": (type(config), config.r, getattr(config, "use_rslora", None)),
            "tuner": (type(self.model.base_model), self.model.peft_type),
            "hooks": sum(len(module._forward_hooks) for module in self.model.modules()),
        }


def plain() -> Ground:
    return over(LoraConfig(r=2, target_modules=["0", "2"]))


def trained() -> Ground:
    ground = plain()
    ground.train()
    ground.optimizer = None
    return ground


def chained() -> Ground:
    return with_chain(plain(), side="left", sketch="orthonormal")


def with_chain(ground: Ground, **options) -> Ground:
    ground.chain = Chain(ground.model, **options)
    ground.train()
    ground.chain.fold(ground.optimizer, step=4)
    ground.train()
    return ground


def of_xs() -> Ground:
    return over(LoraXSConfig(r=2, target_modules=["0", "2"]))


def of_delora() -> Ground:
    return over(DeloraConfig(r=2, delora_lambda=1.0, target_modules=["0", "2"]))


def over(config) -> Ground:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    return Ground(get_peft_model(base, config))


def chained_xs() -> Ground:
    return with_chain(of_xs())


def chained_delora() -> Ground:
    return with_chain(of_delora())


def along_gradients() -> Ground:
    """A chain each of whose blocks begins along the gradient."""
    ground = plain()
    return with_chain(ground, side="right", sketch="gradient", gradients=gradients_of(ground.model))


def gradients_of(model: nn.Module) -> Any:
    return functools.partial(capture_gradients, model, batches=[X], loss=squares)


def squares(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(x).square().sum()


def bases(ground: Ground) -> list[list]:
    return [base_weight(layer).tolist() for layer in adapted_layers(ground.model).values()]


def assert_two_states(
    start: Callable[[], Ground],
    act: Callable[[Ground], object],
    attack: dict[str, Any],
    *,
    can_be_after: bool = True,
) -> None:
    """Hold every state that is left against those before and after ``act``."""
    first = start()
    before = first.state()
    whole = first.copy()
    act(whole)
    after = whole.state()

    def fault(ground: Ground, is_done: bool) -> str | None:
        state = ground.state()
        if state == after and (is_done or can_be_after):
            return None
        if state != before or is_done:
            return f"neither before nor after: {sorted(differences(state, before))}"
        act(ground)  # again
        return None if ground.state() == after else "a repeated call does not end as the first"

    faults = sweep(first.copy, act, fault, **attack)
    assert not faults


def differences(state: dict[str, Any], before: dict[str, Any]) -> list[str]:
    return [name for name, value in state.items() if value != before[name]]


def rare(*values: Any) -> Any:
    """A start that is tried where there is time."""
    return pytest.param(*values, marks=pytest.mark.slow)


def make_chain(ground: Ground) -> None:
    Chain(ground.model)


@attacks
@pytest.mark.parametrize("start", [plain, trained, of_xs, of_delora])
def test_making_a_chain_leaves_the_model_as_it_was(start, attack):
    # Not even the state after: nobody would hold the chain.
    assert_two_states(start, make_chain, attack, can_be_after=False)


@attacks
@pytest.mark.parametrize("start", [chained, chained_xs, chained_delora, rare(along_gradients)])
def test_a_fold_is_whole_or_not_at_all(start, attack):
    assert_two_states(start, Ground.fold, attack)


@attacks
@pytest.mark.parametrize(
    ("start", "final_rank"),
    [
        (chained, None),
        (chained, 1),
        (chained_xs, None),
        rare(chained_xs, 1),
        (chained_delora, None),
        rare(chained_delora, 1),
        rare(along_gradients, 1),
    ],
)
def test_a_finish_is_whole_or_not_at_all(start, final_rank, attack):
    def act(ground: Ground) -> None:
        ground.chain.finish(final_rank=final_rank)

    assert_two_states(start, act, attack)


@attacks
@pytest.mark.parametrize(
    "start", [chained, rare(chained_xs), chained_delora, rare(along_gradients)]
)
def test_a_load_is_whole_or_not_at_all(start, attack, tmp_path):
    saved = start()
    saved.train()
    saved.fold()
    saved.chain.save(tmp_path)
    assert_two_states(start, lambda ground: ground.chain.load(tmp_path), attack)


@attacks
@pytest.mark.parametrize(
    "start", [chained, rare(chained_xs), rare(chained_delora), rare(along_gradients)]
)
def test_looking_at_what_a_block_captures_changes_nothing(start, attack):
    def act(ground: Ground) -> None:
        gradients = gradients_of(ground.model)
        ground.report = ShareWatch(ground.chain, FoldBelow(0.999, look_every=1), gradients)
        ground.report.is_due(9)

    first = start()
    before = first.state()
    random = torch.get_rng_state()

    def fault(ground: Ground, is_done: bool) -> str | None:
        if not torch.equal(torch.get_rng_state(), random) or not torch.is_grad_enabled():
            return "the random state, or whether gradients are on, has changed"
        return None if ground.state() == before else "the model or the chain has changed"

    assert not sweep(first.copy, act, fault, **attack)


@attacks
@pytest.mark.parametrize("start", [chained, rare(chained_xs), rare(chained_delora)])
def test_saving_changes_nothing_but_a_whole_file(start, attack):
    first = start()
    before = first.state()

    def act(ground: Ground) -> None:
        ground.report = Path(tempfile.mkdtemp(dir=folder))
        ground.chain.save(ground.report)

    def fault(ground: Ground, is_done: bool) -> str | None:
        if ground.report is not None and any(ground.report.iterdir()):
            ground.chain.load(ground.report)
            if len(list(ground.report.iterdir())) > 1:
                return "something lies beside the ledger"
        return None if ground.state() == before else "the model has changed"

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert not sweep(first.copy, act, fault, **attack)


@attacks
@pytest.mark.parametrize(
    "start", [chained, rare(chained_xs), rare(chained_delora), rare(along_gradients)]
)
def test_a_context_manager_restores_the_base_whatever_happens(start, attack):
    first = start()
    before = bases(plain())  # which all kinds have

    def act(ground: Ground) -> None:
        with ground.chain:
            ground.train()
            ground.fold()
            ground.train()

    def fault(ground: Ground, is_done: bool) -> str | None:
        with ground.model.disable_adapter():
            if bases(ground) != before:
                return "the base is not restored"
        state = ground.state()
        if state["histories"] != [None, None] or state["config"][0] is not LoraConfig:
            return "the chain is still open"
        # What was folded before is not lost either: the last block may be.
        return None if state["sizes"][0][0] >= 4 else "the finished blocks are gone"

    assert not sweep(first.copy, act, fault, **attack)
