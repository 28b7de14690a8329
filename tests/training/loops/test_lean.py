"""The lean loop is Trainer with ChainCallback, only faster: the same curve and the same weights."""

from __future__ import annotations

import itertools

import pytest
import torch

from rankwise.core.errors import TrainingError
from rankwise.methods.table import METHODS
from rankwise.training.finished import FinishedRun
from rankwise.training.run import train_run

pytestmark = pytest.mark.runs

SHORT = {
    "chain": {"schedule": {"every_epochs": 1}},
    "boundary": {"init": {"steps": 3}},
}


def short(name):
    """Make chains fold within the few epochs of a test, and inits short."""
    parts = METHODS[name].parts()
    overrides = SHORT.get(parts["schedule"]["kind"], {}) | SHORT.get(parts["init"]["kind"], {})
    if name == "peft":
        overrides["adapter"] = {"peft_type": "LORA", "options": {"use_dora": True}}
    return overrides


@pytest.mark.parametrize("name", METHODS)
def test_both_loops_train_the_same(name, settings, output):
    ends = []
    for loop in ("lean", "trainer"):
        training = {"loop": loop, "epochs": 2, "max_grad_norm": 1.0, "scheduler": "cosine"}
        run = settings(name, method=short(name), **training)
        record = train_run(run, output)
        model = FinishedRun.below(output, run.name).trained_model()
        ends.append((record, model.state_dict()))
    (lean, lean_state), (trainer, trainer_state) = ends
    assert lean.trainable_parameters == trainer.trainable_parameters
    for ours, theirs in zip(lean.curve, trainer.curve, strict=True):
        assert ours.step == theirs.step
        assert ours.validation_loss == pytest.approx(theirs.validation_loss, rel=1e-5)
    assert lean_state.keys() == trainer_state.keys()
    for key, value in lean_state.items():
        torch.testing.assert_close(value, trainer_state[key], rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.parametrize("loop", ["lean", "trainer"])
def test_a_chain_that_never_folds_is_said_to_be_another_method(loop, settings, output):
    method = {"schedule": {"every_epochs": 9}}
    with pytest.warns(UserWarning, match="never fold: a block is .* AsymmLoRA, not RAC-LoRA"):
        train_run(settings("rac-lora", method=method, loop=loop), output)


def both_loops(schedule, settings, output):
    """The records of a chain that both loops have trained."""
    method = {"schedule": {"every_epochs": None, **schedule}}
    loops = ("lean", "trainer")
    return [train_run(settings("rac-lora", method=method, loop=each), output) for each in loops]


def assert_same_end(lean, trainer):
    assert lean.folds == trainer.folds
    assert lean.curve[-1].validation_loss == pytest.approx(
        trainer.curve[-1].validation_loss, rel=1e-5
    )


@pytest.mark.parametrize(
    "when", [{"every_steps": 4}, {"fractions": [0.2, 0.7]}, {"every_epochs": 1}]
)
def test_both_loops_fold_at_the_steps_that_the_schedule_says(when, settings, output):
    schedule = {"moments": "carried", "sketch": "orthonormal", **when}
    lean, trainer = both_loops(schedule, settings, output)
    assert len(lean.folds) == len(set(lean.folds)) == (3 if "every_steps" in when else 2)
    assert_same_end(lean, trainer)


def test_both_loops_fold_where_a_block_captures_too_little(settings, output):
    looks = {"captured_below": 0.5, "look_every": 2, "least_steps": 3, "most_steps": 7}
    lean, trainer = both_loops({"gradient_samples": 16, **looks}, settings, output)
    lengths = [after - before for before, after in itertools.pairwise((0, *lean.folds))]
    assert lengths
    assert set(lengths) <= {4, 6, 7}
    assert_same_end(lean, trainer)


@pytest.mark.parametrize("loop", ["lean", "trainer"])
def test_a_chain_that_is_never_looked_at_is_said_to_be_another_method(loop, settings, output):
    schedule = {"every_epochs": None, "captured_below": 0.1, "look_every": 500}
    with pytest.warns(UserWarning, match="first looked at after 500 steps .*AsymmLoRA"):
        train_run(settings("rac-lora", method={"schedule": schedule}, loop=loop), output)


def test_the_curve_begins_with_the_initialised_model(settings, output):
    curve = train_run(settings("lora"), output).curve
    assert [point.step for point in curve] == [0, 5, 10, 15]
    assert curve[0].train_loss is None


@pytest.mark.parametrize("loop", ["lean", "trainer"])
def test_a_loss_that_is_not_finite_stops_the_run(settings, output, loop):
    run = settings("full", loop=loop, learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf): lower"):
        train_run(run, output)
