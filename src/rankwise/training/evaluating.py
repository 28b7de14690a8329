"""The score of an adapter on a task: one that a run left, or a directory from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.evaluation.scores import Evaluation, evaluate
from rankwise.methods.adapters.directory import check_adapter_directory, read_config
from rankwise.training.build import build_task
from rankwise.training.recipes import settings_of_run
from rankwise.training.scoring import open_run, score_split
from rankwise.training.settings import RunSettings

Tree = dict[str, Any]


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
    for folder in (path, path.resolve().parent):
        if (folder / "record.json").is_file():
            settings, run = open_run(folder)
            tree = settings.model_dump()
            changed = settings_of_run(tree | {"task": tree["task"] | changes})
            return changed, score_split(changed, run, split=split)
    return _score_directory(path, changes, split)


def _score_directory(path: Path, changes: Tree, split: str) -> tuple[RunSettings, Evaluation]:
    if not (path / "adapter_config.json").is_file():
        raise AdapterError(
            f"{path} holds neither a record.json nor an adapter_config.json: name the folder of a "
            "run, OUTPUT/runs/NAME, or an adapter directory"
        )
    if "name" not in changes:
        raise SettingsError(f"{path} has no record that says its task: add --task TASK")
    check_adapter_directory(path)
    base = read_config(path).get("base_model_name_or_path")
    # The method plays no part in building the task.
    settings = settings_of_run({"task": {"model": base} | changes, "method": "lora"})
    task = build_task(settings)
    rows = getattr(task.splits(), split)
    model = PeftModel.from_pretrained(task.base_model(path), str(path))  # type: ignore[arg-type]
    return settings, evaluate(model, rows, task)
