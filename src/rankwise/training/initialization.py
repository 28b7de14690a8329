"""Where a run begins: a random start, LoRA-SB's first update, ABM's boundaries, or a saved one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.methods.adapters.directory import check_adapter_directory, read_config
from rankwise.methods.inits.boundary import BoundaryMatching
from rankwise.methods.inits.initialize import Initialization, initialize
from rankwise.methods.inits.magnitude import randomise_directions
from rankwise.methods.inits.update import UpdateApproximation
from rankwise.training.build import settings_errors
from rankwise.training.folder import RunFolder
from rankwise.training.job import Job
from rankwise.training.loops.optimization import first_step_learning_rate
from rankwise.training.records import InitializationRecord
from rankwise.training.settings.adapters import LoraXsSettings
from rankwise.training.settings.base import Settings
from rankwise.training.settings.method import (
    BoundaryInit,
    MethodSettings,
    RandomInit,
    SavedInit,
    UpdateInit,
)
from rankwise.training.settings.run import RunSettings
from rankwise.training.settings.schedules import SingleSchedule

# What decides how the tensors act. A directory that differs there would start another adapter.
_DECISIVE = ("peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "delora_lambda")


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
    changed: dict[str, float] = {"learning_rate": rate}
    if init.reference_warmup_ratio is not None:
        changed["warmup_ratio"] = init.reference_warmup_ratio
    if init.reference_weight_decay is not None:
        changed["weight_decay"] = init.reference_weight_decay
    training = settings.training.model_copy(update=changed)
    return settings.model_copy(
        update={"method": reference_method(settings.method), "training": training}
    )


def initialize_adapter(job: Job, folder: RunFolder) -> InitializationRecord | None:
    """Initialise the job's adapter as its settings say, and return the report; None if random.

    The reference of ``reference: task`` is expected in ``folder.reference``.
    """
    init = job.settings.method.init
    report = INITIALIZATIONS[type(init)](init, job, folder)
    if isinstance(init, UpdateInit | BoundaryInit) and init.directions == "random":
        randomise_directions(job.model, seed=job.settings.seed)
    return report


def _keep_random(_: RandomInit, __: Job, ___: RunFolder) -> None:
    """Leave the adapter at the start that it was attached with."""


def _load_saved(init: SavedInit, job: Job, _: RunFolder) -> InitializationRecord:
    load_adapter(job.model, init.path)
    return InitializationRecord(path=str(init.path))


def warning_of_scaling(method: MethodSettings) -> str | None:
    """Say what is lost where the core's own gradient is not the one nearest to the weight's.

    LoRA-SB's Theorem 5 (arXiv 2411.19557): independence of α needs the correction, or α = r.
    """
    adapter = method.adapter
    if not (isinstance(method.init, UpdateInit) and isinstance(adapter, LoraXsSettings)):
        return None
    if adapter.gradient_correction or adapter.alpha in (None, method.r):
        return None
    return (
        f"alpha {adapter.alpha:g} is not r {method.r}, so a step of R is not the nearest to that "
        "of the weight: leave method.adapter.alpha out, or set method.adapter.gradient_correction"
    )


def _approximate_update(init: UpdateInit, job: Job, _: RunFolder) -> InitializationRecord:
    if warning := warning_of_scaling(job.settings.method):
        warnings.warn(warning, stacklevel=2)
    lr = first_step_learning_rate(job.settings.training, steps=job.steps)
    method = UpdateApproximation(
        lr=lr,
        mode=init.mode,
        seed=job.settings.seed,
        sum_over=init.sum_over,
        noise=init.noise,
        orthonormal=init.orthonormal,
        start=init.start,
    )
    return run_initialization(job, method, job.sample(init.samples, init.sampling))


def _match_boundaries(init: BoundaryInit, job: Job, folder: RunFolder) -> InitializationRecord:
    method = BoundaryMatching(
        margin=init.margin,
        steps=init.steps,
        lr=init.learning_rate,
        weight_decay=init.weight_decay,
        last=init.last,
        layers=init.layers,
        power=init.power,
        reduction=init.reduction,
        reference=_reference(init, folder),
    )
    rows = job.sample(init.samples, init.sampling)
    return run_initialization(job, method, rows, batch_size=init.batch_size)


def run_initialization(
    job: Job, method: Initialization, rows: Tensor, *, batch_size: int | None = None
) -> InitializationRecord:
    """Initialise the job's adapter by ``method`` from the training rows of these numbers."""
    with settings_errors("method.init"):
        report = initialize(job.model, method, job.batches(rows, batch_size=batch_size))
    return InitializationRecord.model_validate(report.to_dict() | {"rows": rows.tolist()})


INITIALIZATIONS: dict[
    type[Settings], Callable[[Any, Job, RunFolder], InitializationRecord | None]
] = {
    RandomInit: _keep_random,
    UpdateInit: _approximate_update,
    BoundaryInit: _match_boundaries,
    SavedInit: _load_saved,
}
"""What initialises an adapter as the settings of an init say."""


def _reference(init: BoundaryInit, folder: RunFolder) -> str | None:
    if init.reference == "pretrained":
        return None
    return str(folder.reference) if init.reference == "task" else init.reference


def load_adapter(model: nn.Module, path: Path) -> None:
    """Give the adapter of ``model`` the tensors in ``path``, such as `rankwise init` writes.

    Raises:
        AdapterError: There is no adapter in ``path``, or it is damaged.
        SettingsError: It is not the adapter that the run's settings describe; every setting that
            differs is named. The model was not changed.
    """
    assert isinstance(model, PeftModel)  # settings refuse an init without an adapter
    if not (path / "adapter_config.json").is_file():
        raise AdapterError(
            f"method.init.path: no adapter in {path}: write one with `rankwise init`"
        )
    tensors = check_adapter_directory(path)
    written, own = read_config(path), model.peft_config["default"].to_dict()
    differing = [
        f"{key} is {written.get(key)!r} there and {_plain(own.get(key))!r} here"
        for key in _DECISIVE
        if written.get(key) != _plain(own.get(key))
    ]
    expected = {key: each.shape for key, each in get_peft_model_state_dict(model).items()}
    found = {key: each.shape for key, each in tensors.items()}
    odd = sorted(key for key in expected | found if expected.get(key) != found.get(key))
    if odd:
        differing.append(f"{len(odd)} tensors, the first {odd[0]}")
    if differing:
        raise SettingsError(
            f"method.init.path: {path} holds another adapter than this run's: "
            + "; ".join(differing)
        )
    set_peft_model_state_dict(model, tensors)


def _plain(value: Any) -> Any:
    """Return an option as JSON has it."""
    return getattr(value, "value", value)
