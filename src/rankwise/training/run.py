"""One run from settings to record: build, initialise, train, evaluate, save.

A run that fails by a mistake in its settings, or whose training breaks down, leaves a record that
says why.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rankwise.core import runtime
from rankwise.core.disk import is_want_of_room
from rankwise.core.errors import RankwiseError, SettingsError
from rankwise.core.locks import check_is_free, sole_use
from rankwise.core.plugins import load_plugins
from rankwise.core.seeds import derive_seed
from rankwise.training.folder import RunFolder
from rankwise.training.initialization import initialize_adapter, needs_reference, reference_settings
from rankwise.training.interrupted import keep_settings, refuse_other_run
from rankwise.training.job import Job, prepare_job
from rankwise.training.logs import line_of, write_curve, write_steps
from rankwise.training.loops.lean import train_lean
from rankwise.training.loops.results import Tell, Trained
from rankwise.training.loops.trainer import train_with_trainer
from rankwise.training.processes import (
    check_processes,
    one_after_another,
    part_ways,
)
from rankwise.training.recorded import finished_record
from rankwise.training.records import (
    CurvePoint,
    FailedRun,
    InitializationRecord,
    RunRecord,
    Seconds,
    identity_of,
)
from rankwise.training.saving import save_trained
from rankwise.training.settings.run import RunSettings

# A worker of a comparison that was killed a moment ago may still be on its way out.
_SECONDS_TO_LEAVE = 10


def train_run(
    settings: RunSettings,
    output: Path,
    *,
    resume: bool = False,
    show_progress: bool = False,
    say: Callable[[str], None] | None = None,
) -> RunRecord:
    """Perform the run below ``output`` and return its record, which is also written there.

    Where a launcher has started several processes (``processes.py``) this is for the main one, and
    the others :func:`take_part`.

    With ``resume``, a finished run is returned as recorded and an interrupted one goes on;
    ``show_progress`` draws the Trainer's progress bars, and ``say`` is given a line an epoch.

    Raises:
        SettingsError: The folder already holds this run, and ``resume`` was not asked for; or it
            was, and the folder holds an interrupted run of other settings; or another command
            performs this run there.
    """
    load_plugins(settings.plugins)
    check_processes(settings)
    folder = RunFolder.below(output, settings.name)
    check_is_free(folder.path)
    is_new = not folder.path.exists()
    if not is_new and not resume:
        raise SettingsError(
            f"{folder.path} holds this run already: add --resume to continue it, "
            "or choose another --output"
        )
    if (finished := finished_record(folder)) is not None:
        return finished
    if is_new and resume:
        refuse_other_run(settings, output)
    with sole_use(folder.path):
        try:
            record = _perform(settings, folder, resume=resume, show_progress=show_progress, say=say)
        except RankwiseError:
            if is_new:  # it would break again at the same place: there is nothing to resume
                folder.clear()
            raise
        record.write(folder.record)
    return record


def run_and_record(settings: RunSettings, output: Path) -> RunRecord | FailedRun:
    """Perform the run unless it is done; whatever stops it becomes a record that says why.

    One run of many must not take the others down, so here every exception is caught: one that is
    not a mistake in the settings keeps its traceback in the record. Only want of room on the disk
    is none of the run's, and is raised.

    Raises:
        SettingsError: Another command performs this run there.
    """
    folder = RunFolder.below(output, settings.name)
    if (finished := finished_record(folder)) is not None:
        return finished
    with run_of_ones_own(folder):
        if (finished := finished_record(folder)) is not None:  # by who has left it just now
            return finished
        begun = time.perf_counter()
        try:
            record: RunRecord | FailedRun = _perform(settings, folder, resume=True)
        except Exception as error:
            if is_want_of_room(error):
                raise
            record = failure_of(settings, error, seconds=time.perf_counter() - begun)
        record.write(folder.record)
    return record


def run_of_ones_own(folder: RunFolder) -> AbstractContextManager[None]:
    """Keep other commands out of the folder of a run of many, as :func:`train_run` does.

    Raises:
        SettingsError: Another one is at work there.
    """
    return sole_use(folder.path, wait_seconds=_SECONDS_TO_LEAVE)


def train_reference(job: Job, folder: RunFolder, *, resume: bool) -> None:
    """Train the plain LoRA whose boundaries are to be matched, on the same task in the same way."""
    reference = prepare_job(reference_settings(job.settings), folder.base, task=job.task)
    _train(reference, folder.reference / "checkpoints", resume=resume)
    save_trained(reference.model, folder.reference)


@dataclass
class OpenRun:
    """A run that is under way: its job, its folder, and what its parts have taken so far."""

    job: Job
    folder: RunFolder
    watch: Stopwatch
    report: InitializationRecord | None = None

    @classmethod
    def begin(cls, settings: RunSettings, folder: RunFolder) -> OpenRun:
        """Keep the run's settings, and build its task and model."""
        keep_settings(settings, folder)
        watch = Stopwatch()
        runtime.reset_peak_memory()
        with watch.part("build"), one_after_another(folder.base):
            job = prepare_job(settings, folder.base)
        return cls(job, folder, watch)

    def initialize(self) -> None:
        """Give the adapter its start."""
        with self.watch.part("init"):
            self.job.place()
            self.report = initialize_adapter(self.job, self.folder)

    def end(self, trained: Trained, *, trained_together: int = 1) -> RunRecord:
        """Save what was trained and return the record, which is not written yet."""
        with self.watch.part("save"):
            save_trained(self.job.model, self.folder.adapter)
            job, curve = self.job, trained.curve
            metric, per_epoch = job.task.metrics[0], job.steps_per_epoch
            write_curve(self.folder, curve, metric=metric, steps_per_epoch=per_epoch)
            write_steps(self.folder, trained.steps)
        return _record(self, trained, trained_together=trained_together)


def take_part(settings: RunSettings, output: Path, *, resume: bool = False) -> None:
    """Train beside the main process, which performs the run by :func:`train_run`; write nothing.

    Raises:
        SettingsError: The run cannot be shared among processes.
    """
    check_processes(settings)
    folder = RunFolder.below(output, settings.name)
    if finished_record(folder) is not None:
        return
    with one_after_another(folder.base):
        job = prepare_job(settings, folder.base)
    job.place()
    initialize_adapter(job, folder)
    _train(job, folder.checkpoints, resume=resume)
    part_ways()


def _perform(
    settings: RunSettings,
    folder: RunFolder,
    *,
    resume: bool,
    show_progress: bool = False,
    say: Callable[[str], None] | None = None,
) -> RunRecord:
    run = OpenRun.begin(settings, folder)
    if needs_reference(settings.method):
        with run.watch.part("init"):
            train_reference(run.job, folder, resume=resume)
    run.initialize()
    with run.watch.part("train"):
        tell = None if say is None else partial(_say_epoch, say, run.job)
        trained = _train(
            run.job, folder.checkpoints, resume=resume, show_progress=show_progress, tell=tell
        )
        part_ways()
    run.watch.add("train", trained.earlier_seconds)
    return run.end(trained)


def _say_epoch(say: Callable[[str], None], job: Job, point: CurvePoint) -> None:
    say(line_of(point, metric=job.task.metrics[0], steps_per_epoch=job.steps_per_epoch))


def _train(
    job: Job,
    checkpoints: Path,
    *,
    resume: bool,
    show_progress: bool = False,
    tell: Tell | None = None,
) -> Trained:
    """Train by the loop of the settings; dropout draws from the run's seed and leaves no trace."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derive_seed(job.settings.seed, "training"))
        if job.settings.training.loop == "lean":
            return train_lean(job, tell=tell)
        return train_with_trainer(
            job, checkpoints, resume=resume, show_progress=show_progress, tell=tell
        )


def _record(run: OpenRun, trained: Trained, *, trained_together: int) -> RunRecord:
    job, folder, seconds = run.job, run.folder, run.watch.seconds()
    measuring = trained.diagnostics_seconds
    return RunRecord(
        **_identity(job.settings),
        metric=job.task.metrics[0],
        data=job.splits.facts,
        trainable_parameters=trained.parameters.adapter,
        head_parameters=trained.parameters.head,
        stored_bytes=_stored_bytes(folder.adapter),
        score_validation=trained.best.validation_score,
        step_kept=trained.best.step,
        curve=tuple(trained.curve),
        steps=tuple(trained.steps),
        folds=tuple(trained.folds),
        init=run.report,
        diagnostics=tuple(trained.diagnostics),
        # Measuring is no part of training.
        seconds=Seconds(**seconds | {"train": seconds["train"] - measuring, "diagnose": measuring}),
        peak_memory_bytes=runtime.peak_memory_bytes(),
        trained_together=trained_together,
    )


def failure_of(settings: RunSettings, error: Exception, *, seconds: float) -> FailedRun:
    """Return the record of a run that ``error`` has stopped after ``seconds``."""
    is_ours = isinstance(error, RankwiseError)
    return FailedRun(
        **_identity(settings),
        error=str(error) if is_ours else f"{type(error).__name__}: {error}",
        traceback=None if is_ours else "".join(traceback.format_exception(error)),
        seconds=Seconds(total=seconds),
    )


def _identity(settings: RunSettings) -> dict[str, Any]:
    """Return what every record of a run says."""
    return {
        "run": settings.name,
        "method": identity_of(settings.method),
        "seed": settings.seed,
        "learning_rate": settings.training.learning_rate,
        "settings": settings.model_dump(mode="json"),
        "versions": runtime.versions(),
        "commit": runtime.commit(),
    }


def _stored_bytes(folder: Path) -> int:
    """Return the bytes of the tensors stored in ``folder``."""
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


class Stopwatch:
    """Adds up the wall-clock seconds of named parts of a run."""

    def __init__(self) -> None:
        self._parts: dict[str, float] = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what happens inside."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - begun)

    def add(self, name: str, seconds: float) -> None:
        """Add what was measured elsewhere, such as a share of what several runs take together."""
        self._parts[name] = self._parts.get(name, 0.0) + seconds

    def seconds(self) -> dict[str, float]:
        """Return the parts, and their ``total``."""
        return self._parts | {"total": sum(self._parts.values())}
