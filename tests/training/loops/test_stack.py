"""What models of one shape compute together: recorded once, and replayed to the same bits."""

from __future__ import annotations

import contextlib

import pytest
import torch

from rankwise.training.job import prepare_job
from rankwise.training.loops.chains import build_chain
from rankwise.training.loops.stack import ModelStack
from rankwise.training.settings.grid import GridPoint
from rankwise.training.settings.recipe import load_recipe

RECIPE = load_recipe("digits", {"task": {"pretrain_epochs": 2}})
METHODS = {method.title: method for method in RECIPE.compare.methods}
NOT_REPLAYED: dict[str, str] = {}
"""Methods of the digits whose steps are computed anew each time, and why."""


@pytest.fixture
def stack_of(output):
    """Make two models of a method as its runs begin, stacked, and the training rows."""
    with contextlib.ExitStack() as open_chains:

        def make(method):
            runs = [method.run(RECIPE.run(), at=GridPoint(0.01), seed=seed) for seed in (0, 1)]
            jobs = [prepare_job(run, output / "base") for run in runs]
            for job in jobs:
                if (chain := build_chain(job)) is not None:
                    open_chains.enter_context(opened(chain))
                job.model.train()
            return ModelStack([job.model for job in jobs]), jobs

        yield make


@contextlib.contextmanager
def opened(chain):
    with chain:
        yield


def gradients(jobs):
    return [
        parameter.grad.clone()
        for job in jobs
        for parameter in job.model.parameters()
        if parameter.requires_grad
    ]


@pytest.mark.parametrize("name", METHODS)
def test_the_steps_of_each_method_of_the_digits_are_replayed_unless_there_is_a_reason(
    name, stack_of
):
    stack, jobs = stack_of(METHODS[name])
    batch = jobs[0].splits.train.take(torch.arange(64).view(2, 32))
    first, computed = stack.losses(batch), gradients(jobs)
    with torch.no_grad():
        outputs = stack.outputs(jobs[0].splits.validation.take(slice(None)))
    is_replayed = all(recording is not None for recording in stack.recordings.values())
    assert len(stack.recordings) == 2
    assert is_replayed is (name not in NOT_REPLAYED)
    assert torch.equal(stack.losses(batch), first)
    assert all(map(torch.equal, gradients(jobs), computed))
    with torch.no_grad():
        again = stack.outputs(jobs[0].splits.validation.take(slice(None)))
    assert all(torch.equal(a["logits"], b["logits"]) for a, b in zip(again, outputs, strict=True))
