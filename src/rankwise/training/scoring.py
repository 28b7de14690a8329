"""What a run left behind, opened again: its settings, its trained model, its scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.core.records import read_record, write_record
from rankwise.evaluation.scores import Evaluation, evaluate
from rankwise.methods.adapters.directory import check_adapter_directory
from rankwise.training.build import build_task
from rankwise.training.folder import RunFolder
from rankwise.training.settings.run import RunSettings

Record = dict[str, Any]


def open_run(path: Path) -> tuple[RunSettings, RunFolder]:
    """Return settings and folder of the finished run in ``path``, a folder ``OUTPUT/runs/NAME``.

    Raises:
        AdapterError: There is no record, or it is not one of a finished run.
    """
    folder = RunFolder(path.resolve().parent.parent, path.resolve().name)
    record = read_record(folder.record)
    if record.get("status") != "done":
        raise AdapterError(
            f"{path} holds no finished run ({record.get('error')}): run it again with --resume"
        )
    try:
        return RunSettings.model_validate(record.get("settings")), folder
    except ValidationError as error:
        raise AdapterError(
            f"the settings in {folder.record} are not of this version ({error}): run it again"
        ) from None


def trained_model(settings: RunSettings, folder: RunFolder) -> nn.Module:
    """Return the model that the run saved, on a fresh base.

    Raises:
        AdapterError: The saved files are missing or damaged.
    """
    base = build_task(settings).base_model(folder.base)
    try:
        if settings.method.adapter.kind == "full":
            base.load_state_dict(load_file(folder.adapter / "model.safetensors"))
            return base
        check_adapter_directory(folder.adapter)
        return PeftModel.from_pretrained(base, str(folder.adapter))
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(
            f"{folder.adapter} cannot be read ({error}): remove {folder.path} and run again"
        ) from None


def score_split(settings: RunSettings, folder: RunFolder, *, split: str) -> Evaluation:
    """Score the trained model on ``train``, ``validation`` or ``test``.

    Raises:
        SettingsError: There is no such split.
    """
    if split not in ("train", "validation", "test"):
        raise SettingsError(f"split must be train, validation or test, got {split!r}")
    task = build_task(settings)
    return evaluate(trained_model(settings, folder), getattr(task.splits(), split), task)


def score_test(settings: RunSettings, output: Path) -> Record:
    """Score the trained model of a run on test, once: a second call reads the first."""
    folder = RunFolder(output, settings.name)
    if folder.test.exists():
        return read_record(folder.test)
    result = score_split(settings, folder, split="test")
    content = {
        "run": settings.name,
        "score_test": result.score,
        "scores": result.scores,
        "invalid": result.invalid,
        "predictions": result.predictions,
        "labels": result.labels,
    }
    write_record(folder.test, content)
    return content
