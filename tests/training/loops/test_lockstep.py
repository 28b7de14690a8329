"""Runs in lockstep end where the lean loop brings each of them alone, up to rounding."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.errors import TrainingError
from rankwise.methods.table import METHODS
from rankwise.training.folder import RunFolder
from rankwise.training.initialization import initialize_adapter, needs_reference
from rankwise.training.job import prepare_job
from rankwise.training.loops.lean import train_lean
from rankwise.training.loops.lockstep import (
    can_train_together,
    train_together,
)
from rankwise.training.run import train_reference
from tests.training.loops.test_lean import short

pytestmark = pytest.mark.runs

STACKED = [name for name in METHODS if name != "peft"]
LEARNING_RATES, SEEDS = (1e-3, 1e-2), (0, 1)


def job_of(settings, output):
    folder = RunFolder.below(output, settings.name)
    job = prepare_job(settings, folder.base)
    if needs_reference(settings.method):
        train_reference(job, folder, resume=False)
    initialize_adapter(job, folder)
    return job


@pytest.fixture
def runs(settings):
    """Make the settings of several runs that differ in learning rate and seed alone."""

    def make(name, **training):
        method = short(name) if name in METHODS else None
        return [
            settings(name, method=method, seed=seed, learning_rate=rate, loop="lean", **training)
            for rate in LEARNING_RATES
            for seed in SEEDS
        ]

    return make


@pytest.mark.parametrize("name", STACKED)
def test_each_run_is_the_lean_loops_up_to_rounding(name, runs, output):
    own = runs(name, max_grad_norm=1.0, scheduler="cosine", epochs=2)
    together = [job_of(each, output) for each in own]
    results = train_together(together)
    for each, job, ours in zip(own, together, results, strict=True):
        alone = job_of(each, output)
        theirs = train_lean(alone)
        assert ours.parameters == theirs.parameters
        assert [point.step for point in ours.curve] == [point.step for point in theirs.curve]
        for one, other in zip(ours.curve, theirs.curve, strict=True):
            assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-4)
            if other.train_loss is not None:
                assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        measured = [point.step for point in theirs.diagnostics]
        assert [point.step for point in ours.diagnostics] == measured
        state = alone.model.state_dict()
        assert job.model.state_dict().keys() == state.keys()
        for key, value in job.model.state_dict().items():
            torch.testing.assert_close(value, state[key], rtol=1e-3, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", ["lora", "rac-lora"])
def test_a_run_does_not_depend_on_which_others_are_beside_it(name, runs, output):
    own = runs(name)
    all_of_them = train_together([job_of(each, output) for each in own])
    for few in ([2], [1, 3]):
        found = train_together([job_of(own[i], output) for i in few])
        assert [each.curve for each in found] == [all_of_them[i].curve for i in few]


def test_a_run_that_breaks_down_leaves_the_others_alone(settings, output):
    own = [
        settings("lora", learning_rate=rate, max_grad_norm=None, loop="lean")
        for rate in (1e-2, 1e30)
    ]
    good, bad = train_together([job_of(each, output) for each in own])
    assert isinstance(bad, TrainingError)
    assert "lower training.learning_rate" in str(bad)
    (alone,) = train_together([job_of(own[0], output)])
    assert good.curve == alone.curve


def test_runs_that_are_stopped_early_leave_one_after_another(runs, output):
    own = runs("full", patience=1, epochs=12)
    found = train_together([job_of(each, output) for each in own])
    alone = [train_lean(job_of(each, output)) for each in own]
    lengths = [len(each.curve) for each in found]
    assert lengths == [len(each.curve) for each in alone]
    assert len(set(lengths)) > 1


def test_only_what_draws_no_random_number_is_trained_in_lockstep(settings, output):
    assert settings("lora", loop="lean").is_stackable
    assert not settings("lora", loop="trainer").is_stackable
    dropping = {"adapter": {"dropout": 0.1}}
    assert not settings("lora", method=dropping, loop="lean").is_stackable
    watched = {"schedule": {"every_epochs": None, "captured_below": 0.1, "look_every": 5}}
    assert not settings("rac-lora", method=watched, loop="lean").is_stackable
    job = prepare_job(settings("lora", loop="lean"), output / "base")
    assert can_train_together(job)
    job.model.add_module("drops", torch.nn.Dropout(0.1))
    assert not can_train_together(job)
