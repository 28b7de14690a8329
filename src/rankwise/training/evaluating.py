"""Any adapter opened again, one that a run left or a directory from anywhere, and its score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from rankwise.core.accelerator import on_accelerator
from rankwise.core.errors import AdapterError, SettingsError
from rankwise.core.plugins import load_plugins, modules_of_metrics
from rankwise.evaluation.scores import Evaluation, evaluate
from rankwise.methods.adapters.directory import check_adapter_directory, read_config
from rankwise.methods.adapters.switching import with_adapter
from rankwise.tasks.generation.task import GenerationTask
from rankwise.tasks.table import Task
from rankwise.training.build import build_causal_task, build_task
from rankwise.training.finished import FinishedRun, split_of
from rankwise.training.settings.recipe import settings_of_run
from rankwise.training.settings.run import RunSettings

Options = dict[str, Any]
# What changes nothing about the rows that a run was trained and chosen on.
_BESIDE_THE_ROWS = {"data_root", "dtype", "metrics", "max_new_tokens"}


@dataclass(frozen=True)
class CausalAdapter:
    """An adapter of a causal model, found and not yet loaded.

    Attributes:
        path: Where it was found.
        task: Its base, its prompts and where data lie.
        run: The run that left it; None for an adapter directory from anywhere.
        name: Of the run, or of the adapter's directory.
        folder: Where completions are kept.
    """

    path: Path
    task: GenerationTask
    run: FinishedRun | None
    name: str
    folder: Path

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's own; shared by the process, not to be changed."""
        return self.task.tokenizer()

    def load(self) -> nn.Module:
        """Return the base model with the adapter, on a GPU where there is one.

        Raises:
            AdapterError: The adapter cannot be read.
            ModelError: The base cannot be loaded, or is no causal model.
        """
        if self.run is not None:
            return on_accelerator(self.run.trained_model())
        return on_accelerator(_adapted(self.path, self.task))


def score_adapter(
    path: Path, *, split: str, task: str | None = None, options: Options | None = None
) -> tuple[RunSettings, Evaluation]:
    """Score what lies at ``path`` on ``split``; return the settings that say how, and the result.

    Args:
        path: The folder of a finished run, the ``adapter`` folder in it, or any adapter directory.
        split: ``train``, ``validation`` or ``test``.
        task: Its name, ``mrpc`` or ``glue/mrpc``; None is the run's own.
        options: Further settings of the task, such as ``{"data_root": ...}``. On its own task a
            run keeps the splits that it was trained with, so only what leaves them alone: other
            metrics than those that it was chosen by may be asked for.

    Raises:
        AdapterError: There is no adapter, or it cannot be read.
        SettingsError: A directory without a record needs ``task``, or a setting is wrong.
    """
    changes = ({} if task is None else {"name": task.removeprefix("glue/")}) | (options or {})
    load_plugins(modules_of_metrics(changes.get("metrics")))
    run = find_run(path)
    if run is None:
        settings = _settings_of_directory(path, changes)
        built = build_task(settings)
        model = on_accelerator(_adapted(path, built))
        return settings, evaluate(model, split_of(built.splits(), split), built)
    _check_own_splits(run, changes)
    run = _with_task(run, changes)
    return run.settings, run.score(split)


def find_causal(path: Path, options: Options | None = None) -> CausalAdapter:
    """Find the adapter of a causal model that lies at ``path``, as :func:`score_adapter` does.

    Args:
        path: The folder of a finished run, the ``adapter`` folder in it, or any adapter directory.
        options: Settings of the task, such as ``{"model": ...}``, in the place of those recorded.

    Raises:
        AdapterError: There is no adapter.
        SettingsError: A run's model is no causal one, or a setting is wrong.
    """
    run = find_run(path)
    if run is not None:
        run = _with_task(run, options or {})
        task = build_causal_task(run.settings)
        return CausalAdapter(path, task, run, run.name, run.folder.answers)
    # No row of a corpus is read, so that of a directory without a record is as good as any.
    task = build_causal_task(_settings_of_directory(path, {"name": "alpaca"} | (options or {})))
    home = path.resolve()
    return CausalAdapter(path, task, None, home.name, home / "answers")


def find_run(path: Path) -> FinishedRun | None:
    """Return the run that lies at ``path``, None for an adapter directory without a record."""
    if any((folder / "record.json").is_file() for folder in (path, path.resolve().parent)):
        return FinishedRun.open(path)
    if not (path / "adapter_config.json").is_file():
        raise AdapterError(
            f"{path} holds neither a record.json nor an adapter_config.json: name the folder of a "
            "run, OUTPUT/runs/NAME, or an adapter directory"
        )
    return None


def _check_own_splits(run: FinishedRun, changes: Options) -> None:
    """Refuse to cut the rows of a run's own task anew: some of them it was trained on."""
    own = run.settings.task
    if changes.get("name", own.name) != own.name:
        return
    recorded = own.model_dump(mode="json")
    odd = [
        key
        for key, value in changes.items()
        if key not in _BESIDE_THE_ROWS and recorded.get(key) != value
    ]
    if odd:
        raise SettingsError(
            f"task.{odd[0]} {changes[odd[0]]!r} would cut other splits than those that "
            f"{run.name} was trained with ({recorded.get(odd[0])!r}), and score rows that it has "
            "seen: leave it out"
        )


def _with_task(run: FinishedRun, changes: Options) -> FinishedRun:
    """Return ``run`` with ``changes`` above the settings of its task."""
    if not changes:
        return run
    tree = run.settings.model_dump()
    return replace(run, settings=settings_of_run(tree | {"task": tree["task"] | changes}))


def _settings_of_directory(path: Path, changes: Options) -> RunSettings:
    if "name" not in changes:
        raise SettingsError(f"{path} has no record that says its task: add --task TASK")
    check_adapter_directory(path)
    base = read_config(path).get("base_model_name_or_path")
    named = {} if base is None else {"model": base}  # a task such as digits makes its own
    # The method plays no part in building the task.
    return settings_of_run({"task": named | changes, "method": "lora"})


def _adapted(path: Path, task: Task) -> nn.Module:
    return with_adapter(task.base_model(path), path)
