"""An adapter opened again, one that a run left or a directory from anywhere, and its score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedTokenizerBase

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.evaluation.scores import Evaluation, evaluate
from rankwise.methods.adapters.directory import check_adapter_directory, read_config
from rankwise.tasks.table import Task
from rankwise.training.build import build_causal_task, build_task
from rankwise.training.folder import RunFolder
from rankwise.training.scoring import open_run, score_split, trained_model
from rankwise.training.settings.recipe import settings_of_run
from rankwise.training.settings.run import RunSettings

Tree = dict[str, Any]


@dataclass(frozen=True)
class Causal:
    """A causal model with its adapter, ready to be asked.

    Attributes:
        model: On a GPU where there is one.
        tokenizer: Its own; shared by the process, not to be changed.
        name: Of the run, or of the adapter's directory.
        folder: Where answers are kept.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    name: str
    folder: Path


def score_adapter(
    path: Path, *, split: str, task: str | None = None, options: Tree | None = None
) -> tuple[RunSettings, Evaluation]:
    """Score what lies at ``path`` on ``split``; return the settings that say how, and the result.

    Args:
        path: The folder of a finished run, the ``adapter`` folder in it, or any adapter directory.
        split: ``train``, ``validation`` or ``test``.
        task: Its name, ``mrpc`` or ``glue/mrpc``; None is the run's own.
        options: Further settings of the task, such as ``{"data_root": ...}``.

    Raises:
        AdapterError: There is no adapter, or it cannot be read.
        SettingsError: A directory without a record needs ``task``, or a setting is wrong.
    """
    changes = ({} if task is None else {"name": task.removeprefix("glue/")}) | (options or {})
    settings, run = _find(path, changes)
    if run is not None:
        return settings, score_split(settings, run, split=split)
    built = build_task(settings)
    rows = getattr(built.splits(), split)
    return settings, evaluate(_adapted(path, built), rows, built)


def open_causal(path: Path, options: Tree | None = None) -> Causal:
    """Return the causal model whose adapter lies at ``path``, as :func:`score_adapter` finds it.

    Args:
        path: The folder of a finished run, the ``adapter`` folder in it, or any adapter directory.
        options: Settings of the task, such as ``{"model": ...}``, in the place of those recorded.

    Raises:
        AdapterError: There is no adapter, or it cannot be read.
        ModelError: The base cannot be loaded, or is no causal model.
        SettingsError: A run's model is no causal one, or a setting is wrong.
    """
    # No row of a corpus is read, so that of a directory without a record is as good as any.
    settings, run = _find(path, options or {}, name="alpaca")
    built = build_causal_task(settings)
    tokenizer = built.language.tokenizer()
    model = _adapted(path, built) if run is None else trained_model(settings, run)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    home = path.resolve() if run is None else run.path
    return Causal(model.to(device), tokenizer, home.name, home / "answers")


def _find(path: Path, changes: Tree, **otherwise: Any) -> tuple[RunSettings, RunFolder | None]:
    """Return the settings of what lies at ``path``, and its run if one left it.

    ``changes`` go above what the record says; where there is none, ``otherwise`` goes below them.
    """
    for folder in (path, path.resolve().parent):
        if (folder / "record.json").is_file():
            settings, run = open_run(folder)
            tree = settings.model_dump()
            return settings_of_run(tree | {"task": tree["task"] | changes}), run
    if not (path / "adapter_config.json").is_file():
        raise AdapterError(
            f"{path} holds neither a record.json nor an adapter_config.json: name the folder of a "
            "run, OUTPUT/runs/NAME, or an adapter directory"
        )
    changes = otherwise | changes
    if "name" not in changes:
        raise SettingsError(f"{path} has no record that says its task: add --task TASK")
    check_adapter_directory(path)
    base = read_config(path).get("base_model_name_or_path")
    # The method plays no part in building the task.
    return settings_of_run({"task": {"model": base} | changes, "method": "lora"}), None


def _adapted(path: Path, task: Task) -> nn.Module:
    base: Any = task.base_model(path)
    return PeftModel.from_pretrained(base, str(path))
