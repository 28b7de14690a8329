"""From settings to a task, and from a refused argument to an error about a setting.

What the floors below refuse as an argument is a user's setting here, so their refusals leave this
floor as a ``SettingsError`` that names the setting. Any other exception is a fault of ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from rankwise.core.errors import AdapterError, DataError, ModelError, SettingsError
from rankwise.functional.arguments import ArgumentError
from rankwise.tasks.data_root import find_data_root
from rankwise.tasks.digits import DigitsTask
from rankwise.tasks.generation.causal_models import PretrainedBase
from rankwise.tasks.generation.definitions import CORPORA, SMALL
from rankwise.tasks.generation.small import SmallBase
from rankwise.tasks.generation.task import GenerationTask
from rankwise.tasks.glue.classes import GlueClasses
from rankwise.tasks.glue.text import GlueText
from rankwise.tasks.mnist import MnistTask
from rankwise.tasks.table import Task
from rankwise.tasks.vtab.task import VtabTask
from rankwise.training.own_data import build_own_task
from rankwise.training.settings.base import Settings
from rankwise.training.settings.own_data import OWN_DATA
from rankwise.training.settings.run import RunSettings
from rankwise.training.settings.task import (
    DigitsSettings,
    GenerationSettings,
    GlueSettings,
    MnistSettings,
    VtabSettings,
)

# How the floors below refuse an argument. A ValueError that is none of these is a fault of ours.
_REFUSALS = (SettingsError, DataError, ModelError, AdapterError, ArgumentError)


def build_task(run: RunSettings) -> Task:
    """Return the task of a run.

    Raises:
        SettingsError: What is named as the data root is no folder.
    """
    return BUILDERS[type(run.task)](run.task, run.seed)


def _digits(settings: DigitsSettings, _: int) -> Task:
    return DigitsTask(**settings.model_dump(exclude={"name"}))


def _mnist(settings: MnistSettings, _: int) -> Task:
    options = settings.model_dump(exclude={"name", "data_root"})
    return MnistTask(find_data_root(settings.data_root), **options)


def _glue(settings: GlueSettings, seed: int) -> Task:
    form = GlueClasses if settings.form == "classes" else GlueText
    return form(
        **settings.model_dump(exclude={"form", "data_root", "split_seed"}),
        data_root=find_data_root(settings.data_root),
        split_seed=seed if settings.split_seed is None else settings.split_seed,
        head_seed=seed,
    )


def _vtab(settings: VtabSettings, seed: int) -> Task:
    return VtabTask(
        **settings.model_dump(exclude={"data_root", "split_seed"}),
        data_root=find_data_root(settings.data_root),
        split_seed=seed if settings.split_seed is None else settings.split_seed,
        head_seed=seed,
    )


def _generation(settings: GenerationSettings, seed: int) -> Task:
    root = find_data_root(settings.data_root)
    task = GenerationTask(
        **settings.model_dump(exclude={"model", "small", "data_root", "files", "split_seed"}),
        base=PretrainedBase(settings.model),
        data_root=root,
        files=tuple(settings.files),
        split_seed=seed if settings.split_seed is None else settings.split_seed,
    )
    if settings.model != SMALL:
        return task
    options = settings.small.model_dump(exclude={"files", "reads_held_out"})
    files = tuple(settings.small.files) or task.files
    cut = None if settings.small.reads_held_out else task.cut
    return replace(task, base=SmallBase(root, files, cut, **options))


BUILDERS: dict[type[Settings], Callable[[Any, int], Task]] = {
    DigitsSettings: _digits,
    MnistSettings: _mnist,
    GlueSettings: _glue,
    VtabSettings: _vtab,
    GenerationSettings: _generation,
    **dict.fromkeys(OWN_DATA, build_own_task),
}
"""What makes a task of its settings and the seed of the run."""


def build_causal_task(run: RunSettings) -> GenerationTask:
    """Return the task of a run whose model is a causal one.

    Raises:
        SettingsError: It is another, or what is named as the data root is no folder.
    """
    task = build_task(run)
    if not isinstance(task, GenerationTask):
        raise SettingsError(
            f"{run.task.name} has no model that writes answers: --tasks is for runs on "
            f"{', '.join(CORPORA)}"
        )
    return task


@contextlib.contextmanager
def settings_errors(place: str) -> Iterator[None]:
    """Turn a refused argument into an error about the setting ``place``; a fault stays a fault."""
    try:
        yield
    except _REFUSALS as error:
        raise SettingsError(f"{place}: {error}") from error
