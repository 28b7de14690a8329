"""One run from settings to record: build, initialise, train, evaluate, save.

A run that fails by a mistake in its settings, or whose training breaks down, leaves a record that
says why.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import nn

from rankwise.core import runtime
from rankwise.core.errors import RankwiseError, SettingsError
from rankwise.core.records import read_record, write_record
from rankwise.core.seeds import derive_seed
from rankwise.training.adapter import attach_adapter
from rankwise.training.build import build_task, state_bytes
from rankwise.training.folder import RunFolder
from rankwise.training.initialization import needs_reference, reference_settings, start
from rankwise.training.job import Job
from rankwise.training.loops.lean import train_lean
from rankwise.training.loops.results import Trained
from rankwise.training.loops.trainer import train_with_trainer
from rankwise.training.resuming import refuse_other_run, write_settings
from rankwise.training.settings.run import RunSettings
from rankwise.training.stopwatch import Stopwatch

Record = dict[str, Any]


def train_run(
    settings: RunSettings, output: Path, *, resume: bool = False, show_progress: bool = False
) -> Record:
    """Perform the run below ``output`` and return its record, which is also written there.

    With ``resume``, a finished run is returned as recorded and an interrupted one goes on;
    ``show_progress`` draws the Trainer's progress bars.

    Raises:
        SettingsError: The folder already holds this run, and ``resume`` was not asked for; or it
            was, and the folder holds an interrupted run of other settings.
    """
    folder = RunFolder(output, settings.name)
    is_new = not folder.path.exists()
    if not is_new and not resume:
        raise SettingsError(
            f"{folder.path} holds this run already: add --resume to go on with it, "
            "or choose another --output"
        )
    if (finished := finished_record(folder)) is not None:
        return finished
    if is_new and resume:
        refuse_other_run(settings, output)
    try:
        record = _perform(settings, folder, resume=resume, show_progress=show_progress)
    except RankwiseError:
        if is_new:  # it would break again at the same place: there is nothing to resume
            folder.clear()
        raise
    write_record(folder.record, record)
    return record


def run_and_record(settings: RunSettings, output: Path) -> Record:
    """Perform the run unless it is done; whatever stops it becomes a record that says why.

    One run of many must not take the others down, so here every exception is caught: one that is
    not a mistake in the settings keeps its traceback in the record.
    """
    folder = RunFolder(output, settings.name)
    if (finished := finished_record(folder)) is not None:
        return finished
    begun = time.perf_counter()
    try:
        record = _perform(settings, folder, resume=True)
    except RankwiseError as error:
        record = _failure(settings, str(error), trace=None)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        record = _failure(settings, message, trace=traceback.format_exc())
    record["seconds"].setdefault("total", time.perf_counter() - begun)
    write_record(folder.record, record)
    return record


def finished_record(folder: RunFolder) -> Record | None:
    """Return the record of a run that is done, or None."""
    if not folder.record.exists():
        return None
    record = read_record(folder.record)
    return record if record["status"] == "done" else None


def _perform(
    settings: RunSettings, folder: RunFolder, *, resume: bool, show_progress: bool = False
) -> Record:
    write_settings(settings, folder)
    watch = Stopwatch()
    runtime.reset_peak_memory()
    task = build_task(settings)
    with watch.part("build"):
        splits = task.splits()
        base = task.base_model(folder.base)
        model = attach_adapter(base, settings.method, task=task, seed=settings.seed)
        job = Job(settings, task, model, splits)
    with watch.part("init"):
        if needs_reference(settings.method):
            train_reference(job, folder, resume=resume)
        report = start(job, folder)
    with watch.part("train"):
        trained = _train(job, folder.checkpoints, resume=resume, show_progress=show_progress)
    with watch.part("save"):
        _save(model, folder.adapter)
    return _head(settings) | {
        "status": "done",
        "error": None,
        "metric": task.metrics[0],
        "data": splits.facts,
        "trainable_parameters": trained.parameters.adapter,
        "head_parameters": trained.parameters.head,
        "stored_bytes": state_bytes(folder.adapter),
        "score_validation": trained.best.validation_score,
        "step_kept": trained.best.step,
        "curve": [asdict(point) for point in trained.curve],
        "folds": job.fold_steps,
        "init": report,
        "diagnostics": [asdict(point) for point in trained.diagnosis.points],
        "seconds": _seconds(watch, trained),
        "peak_memory_bytes": runtime.peak_memory_bytes(),
    }


def _seconds(watch: Stopwatch, trained: Trained) -> dict[str, float]:
    """Return the seconds by part; looking at the training is no part of it."""
    seconds, looking = watch.seconds(), trained.diagnosis.seconds
    return {**seconds, "train": seconds["train"] - looking, "diagnose": looking}


def _head(settings: RunSettings) -> Record:
    method = settings.method
    return {
        "run": settings.name,
        "method": {
            "name": method.title,
            "r": method.rank,
            "side": method.side,
            "budget": method.budget,
        },
        "seed": settings.seed,
        "learning_rate": settings.training.learning_rate,
        "settings": settings.model_dump(mode="json"),
        "versions": runtime.versions(),
        "commit": runtime.commit(),
    }


def _failure(settings: RunSettings, error: str, *, trace: str | None) -> Record:
    return _head(settings) | {
        "status": "failed",
        "error": error,
        "traceback": trace,
        "seconds": {},
    }


def train_reference(job: Job, folder: RunFolder, *, resume: bool) -> None:
    """Train the plain LoRA whose boundaries are to be matched, on the same task in the same way."""
    settings = reference_settings(job.settings)
    task = build_task(settings)
    base = task.base_model(folder.base)
    model = attach_adapter(base, settings.method, task=task, seed=settings.seed)
    reference = Job(settings, task, model, job.splits)
    _train(reference, folder.reference / "checkpoints", resume=resume)
    _save(model, folder.reference)


def _train(job: Job, checkpoints: Path, *, resume: bool, show_progress: bool = False) -> Trained:
    """Train by the loop of the settings; dropout draws from the run's seed and leaves no trace."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derive_seed(job.settings.seed, "training"))
        if job.settings.training.loop == "lean":
            return train_lean(job)
        return train_with_trainer(job, checkpoints, resume=resume, show_progress=show_progress)


def _save(model: nn.Module, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, PeftModel):
        model.save_pretrained(str(folder))
    else:
        save_file(model.state_dict(), folder / "model.safetensors")
