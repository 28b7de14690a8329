"""Where a run begins: a random start, LoRA-SB's first update, ABM's boundaries, or a saved one."""

from __future__ import annotations

from typing import Any

from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from rankwise.training.build import settings_errors
from rankwise.training.folder import RunFolder
from rankwise.training.job import Job
from rankwise.training.loops.optimization import first_step_learning_rate
from rankwise.training.saved_start import load_start
from rankwise.training.settings.method import (
    BoundaryInit,
    MethodSettings,
    RandomInit,
    SavedInit,
    SingleSchedule,
    UpdateInit,
)
from rankwise.training.settings.run import RunSettings


def needs_reference(method: MethodSettings) -> bool:
    """Say whether the method's start needs a model that was trained on the task before."""
    return isinstance(method.init, BoundaryInit) and method.init.reference == "task"


def reference_method(method: MethodSettings) -> MethodSettings:
    """Return the method that trains the reference: the same adapter from its random start."""
    return method.model_copy(update={"init": RandomInit(), "schedule": SingleSchedule()})


def reference_settings(settings: RunSettings) -> RunSettings:
    """Return the run that trains the reference: on the same task, in the same way."""
    init = settings.method.init
    assert isinstance(init, BoundaryInit)
    rate = init.reference_learning_rate or settings.training.learning_rate
    training = settings.training.model_copy(update={"learning_rate": rate})
    return settings.model_copy(
        update={"method": reference_method(settings.method), "training": training}
    )


def start(job: Job, folder: RunFolder) -> dict[str, Any] | None:
    """Initialise the job's adapter as its settings say, and return the report; None if random.

    The reference of ``reference: task`` is expected in ``folder.reference``.
    """
    init = job.settings.method.init
    match init:
        case UpdateInit():
            lr = first_step_learning_rate(job.settings.training, steps=job.steps)
            method = UpdateApproximation(lr=lr, mode=init.mode, seed=job.settings.seed)
        case BoundaryInit():
            method = BoundaryMatching(
                margin=init.margin,
                steps=init.steps,
                lr=init.learning_rate,
                last=init.last,
                reference=_reference(init, folder),
            )
        case SavedInit():
            return load_start(job.model, init.path)
        case _:
            return None
    with settings_errors("method.init"):
        size = init.batch_size if isinstance(init, BoundaryInit) else None
        batches = job.first_rows(init.samples, batch_size=size)
        return initialize(job.model, method, batches).to_dict()


def _reference(init: BoundaryInit, folder: RunFolder) -> str | None:
    if init.reference == "pretrained":
        return None
    return str(folder.reference) if init.reference == "task" else init.reference
