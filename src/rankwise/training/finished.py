"""A run that came to its end, opened again wherever it lies: its task, its model, its scores.

A federation leaves the same, and is opened the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.evaluation.scores import Evaluation, evaluate
from rankwise.methods.adapters.switching import with_adapter
from rankwise.tasks.retention import Reading, RetentionTask
from rankwise.tasks.splits import Rows, Splits
from rankwise.tasks.table import Task
from rankwise.training.build import build_task
from rankwise.training.federation_records import FederationRecord, read_any
from rankwise.training.folder import RunFolder
from rankwise.training.job import placed
from rankwise.training.logs import write_test_scores
from rankwise.training.recorded import adapter_digest, recorded_retention, recorded_test
from rankwise.training.records import FailedRun, RetentionRecord, RunRecord, TestResult
from rankwise.training.settings.run import RunSettings

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class FinishedRun:
    """What a run left behind.

    Attributes:
        folder: Where it lies.
        name: Its own name, whatever its folder is called now.
        settings: What it was run with; ``data_root`` may have been changed since.
        record: What it recorded.
    """

    folder: RunFolder
    name: str
    settings: RunSettings
    record: RunRecord | FederationRecord

    @classmethod
    def open(cls, path: Path, *, data_root: Path | None = None) -> FinishedRun:
        """Open the run whose folder is ``path``, or whose ``adapter`` folder it is.

        Args:
            path: ``OUTPUT/runs/NAME``, wherever it was moved or copied to, or what a federation
                left.
            data_root: Where its data lie now; None: where they lay.

        Raises:
            AdapterError: There is no record, it is damaged, or the run did not come to its end.
        """
        folder = RunFolder.at(path if (path / "record.json").is_file() else path.resolve().parent)
        if not folder.record.is_file():
            raise AdapterError(
                f"{path} holds no record.json: name the folder of a run, OUTPUT/runs/NAME"
            )
        return cls._of(folder, data_root)

    @classmethod
    def below(cls, output: Path, name: str) -> FinishedRun:
        """Open the run ``name`` of those that ``output`` holds.

        Raises:
            AdapterError: There is none, it is damaged, or it did not come to its end.
        """
        return cls._of(RunFolder.below(output, name), None)

    @classmethod
    def _of(cls, folder: RunFolder, data_root: Path | None) -> FinishedRun:
        record = read_any(folder.record)
        if isinstance(record, FailedRun):
            raise AdapterError(
                f"{folder.path} holds no finished run ({record.error}): run it again with --resume"
            )
        settings = record.run_settings()
        if data_root is not None:
            task = settings.task.model_copy(update={"data_root": data_root})
            settings = settings.model_copy(update={"task": task})
        name = settings.name if isinstance(record, FederationRecord) else record.run
        return cls(folder, name, settings, record)

    @cached_property
    def task(self) -> Task:
        """The task that it was trained on."""
        return build_task(self.settings)

    @cached_property
    def splits(self) -> Splits:
        """The rows of its task, cut as they were for its training."""
        return self.task.splits()

    def base_model(self) -> nn.Module:
        """Return the model that it began with, fresh."""
        return self.task.base_model(self.folder.base)

    def trained_model(self) -> nn.Module:
        """Return the model that it saved, on a fresh base.

        Raises:
            AdapterError: The saved files are missing or damaged.
        """
        base: Any = self.base_model()
        try:
            if self.settings.method.adapter.kind == "full":
                load_model(base, self.folder.adapter / "model.safetensors")
                return base
            return with_adapter(base, self.folder.adapter)
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise AdapterError(
                f"{self.folder.adapter} cannot be read ({error}): remove {self.folder.path} and "
                "run again"
            ) from None

    def score(self, split: str) -> Evaluation:
        """Score the trained model on ``train``, ``validation`` or ``test``, as it was trained.

        Raises:
            SettingsError: There is no such split.
        """
        return self._scored(self.placed(self.trained_model()), split_of(self.splits, split))

    def score_test(self) -> TestResult:
        """Score the trained model on test, once: a second call reads what the first wrote.

        Where that takes no time to speak of, its retention is measured too.

        Raises:
            AdapterError: What was scored before is not the adapter that is here now.
        """
        if (recorded := recorded_test(self.folder)) is not None:
            return recorded
        model = self.placed(self.trained_model())
        if isinstance(self.task, RetentionTask) and self.task.is_retention_cheap:
            self._keep_retention(self.task.remember(self.placed(self.base_model())), model)
        found = self._scored(model, self.splits.test)
        result = TestResult(
            run=self.name,
            score_test=found.score,
            scores=found.scores,
            invalid=found.invalid,
            predictions=tuple(found.predictions),
            labels=tuple(found.labels),
            adapter_digest=adapter_digest(self.folder.adapter),
        )
        write_test_scores(self.folder, found.scores)
        result.write(self.folder.test)
        return result

    def retention(self) -> RetentionRecord:
        """Measure what the trained model has left of what its base knew, once.

        Raises:
            SettingsError: The task knows no measure of it.
            AdapterError: What was measured before is not the adapter that is here now.
        """
        if (recorded := recorded_retention(self.folder)) is not None:
            return recorded
        task = retention_task(self.task)
        reading = task.remember(self.placed(self.base_model()))
        return self._keep_retention(reading, self.placed(self.trained_model()))

    def placed(self, model: nn.Module) -> nn.Module:
        """Bring a model of this run to where the run was trained, and return it."""
        return placed(model, self.settings.training)

    def _scored(self, model: nn.Module, rows: Rows) -> Evaluation:
        return evaluate(model, rows, self.task, bf16=self.settings.training.bf16)

    def _keep_retention(self, reading: Reading, model: Any) -> RetentionRecord:
        found = reading(model.get_base_model() if isinstance(model, PeftModel) else model)
        digest = adapter_digest(self.folder.adapter)
        result = RetentionRecord(run=self.name, **found._asdict(), adapter_digest=digest)
        result.write(self.folder.retention)
        return result


def retention_task(task: Task) -> RetentionTask:
    """Return the task as one that can tell what a base knew.

    Raises:
        SettingsError: It cannot.
    """
    if not isinstance(task, RetentionTask):
        raise SettingsError(
            f"compare.retention: task {task.name} knows no measure of what its base knew: leave it "
            "out"
        )
    return task


def split_of(splits: Splits, name: str) -> Any:
    """Return the split of that name.

    Raises:
        SettingsError: There is no such split.
    """
    if name not in SPLITS:
        raise SettingsError(f"split must be train, validation or test, got {name!r}")
    return getattr(splits, name)


def score_test(settings: RunSettings, output: Path) -> TestResult:
    """Score the run of ``settings`` below ``output`` on test, once."""
    return FinishedRun.below(output, settings.name).score_test()
