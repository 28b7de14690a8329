"""What is kept of a run, of its start and of its test score, as types.

    OUTPUT/runs/NAME/record.json    RunRecord or FailedRun
    OUTPUT/runs/NAME/test.json      TestResult
    OUTPUT/runs/NAME/retention.json RetentionRecord
    ADAPTER/rankwise_init.json      InitialAdapterRecord

What is kept of a comparison is in ``comparison/records.py``, of a federation in
``federation_records.py``.
A method is the same one wherever its name, rank, side and budget are: :class:`MethodIdentity`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
)

from rankwise.core.errors import AdapterError
from rankwise.core.plugins import check_plugins
from rankwise.core.records import Record, read_as
from rankwise.methods.inits.report import LayerStart, MonitoredLayer
from rankwise.training.settings.method import MethodSettings
from rankwise.training.settings.run import RunSettings

Json: TypeAlias = dict[str, JsonValue]


class MethodIdentity(Record):
    """What tells the methods of a comparison apart."""

    name: str
    r: int | None = None
    side: str | None = None
    # A label, which older records may hold as the number that it looks like.
    budget: Annotated[str, BeforeValidator(str)] = ""

    @property
    def label(self) -> str:
        """The method in full: ``rac-lora r=2, left``."""
        rank = "" if self.r is None else f" r={self.r}"
        side = "" if self.side is None else f", {self.side}"
        return f"{self.name}{rank}{side}"

    @property
    def identity(self) -> MethodIdentity:
        """The identity alone, of whatever else is said of the method here: a key for a table."""
        return MethodIdentity(name=self.name, r=self.r, side=self.side, budget=self.budget)

    def __hash__(self) -> int:
        return hash((self.name, self.r, self.side, self.budget))


def identity_of(method: MethodSettings) -> MethodIdentity:
    """Return the identity of a method by its settings."""
    return MethodIdentity(name=method.title, r=method.rank, side=method.side, budget=method.budget)


class CurvePoint(Record):
    """The state after ``step`` optimizer steps; 0 is the initialised model, untrained."""

    step: int
    train_loss: float | None = None
    validation_loss: float
    validation_score: float


class StepPoint(Record):
    """An optimizer step while it was logged.

    Attributes:
        loss: Mean over the steps since the last point.
        learning_rate: Of the step, in the first group of the optimizer.
        gradient_norm: Of the step, over all that trains, before clipping.
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float | None = None


class DiagnosticPoint(Record):
    """What was measured after ``step`` optimizer steps; None is what was not asked for there.

    Attributes:
        relative_norm: ‖ΔW‖ / ‖W‖ over all adapted layers; ``strength`` in records of version 0.1.
        captured_share: Of the gradient of one batch; ``followed`` in those.
        batch_loss: Mean loss of that batch in eval mode.
    """

    step: int
    relative_norm: Annotated[
        float | None, Field(validation_alias=AliasChoices("relative_norm", "strength"))
    ] = None
    captured_share: Annotated[
        float | None, Field(validation_alias=AliasChoices("captured_share", "followed"))
    ] = None
    batch_loss: float | None = None


class InitializationRecord(Record):
    """What an initialization did: the report of ``rankwise.initialize``, or where it was read.

    ``rows`` are the numbers of the training rows that it took; version 0.1 took the first.
    """

    init: str = ""
    adapter_name: str = "default"
    seconds: float = 0.0
    samples: int = 0
    rows: tuple[int, ...] = ()
    reference: str | None = None
    losses: tuple[float | None, ...] = ()
    steps: int = 0
    monitored: tuple[MonitoredLayer, ...] = ()
    layers: tuple[LayerStart, ...] = ()
    path: str | None = None


class InitialAdapterRecord(Record):
    """What `rankwise init` says of the adapter that it wrote."""

    settings: Json
    versions: dict[str, str] = Field(default_factory=dict)
    commit: str | None = None
    init: InitializationRecord | None = None


class Seconds(Record):
    """Wall-clock seconds by the part of a run; diagnostics are no part of training."""

    build: float = 0.0
    init: float = 0.0
    train: float = 0.0
    save: float = 0.0
    diagnose: float = 0.0
    total: float = 0.0


class RunIdentity(Record):
    """What every record of a run says, whether it came to its end or not."""

    run: str
    method: MethodIdentity
    seed: int
    learning_rate: float
    settings: Json
    versions: dict[str, str] = Field(default_factory=dict)
    commit: str | None = None

    def run_settings(self) -> RunSettings:
        """Return the settings of the run.

        Raises:
            AdapterError: They are of another version of Rankwise.
        """
        return _run_settings(self.settings, of=f"run {self.run}")


class RunRecord(RunIdentity):
    """A run that came to its end.

    Attributes:
        metric: The headline metric, in which the scores are.
        data: What the task says of its data.
        trainable_parameters: Of the adapter; those of the head are apart.
        stored_bytes: Of the tensors saved.
        score_validation: At the step that was kept.
        folds: The steps after which a chain was folded.
        init: What the initialization did; None for the adapter's own random start.
        trained_together: Runs that were trained in lockstep, this one included; its seconds of
            training are an equal share.
        steps: With ``training.logging_steps``.
    """

    status: Literal["done"] = "done"
    metric: str
    data: Json = Field(default_factory=dict)
    trainable_parameters: int
    head_parameters: int = 0
    stored_bytes: int
    score_validation: float
    step_kept: int = 0
    curve: tuple[CurvePoint, ...]
    steps: tuple[StepPoint, ...] = ()
    folds: tuple[int, ...] = ()
    init: InitializationRecord | None = None
    diagnostics: tuple[DiagnosticPoint, ...] = ()
    seconds: Seconds
    peak_memory_bytes: int = 0
    trained_together: int = 1


class FailedRun(RunIdentity):
    """A run that broke down: why, and where if that is a fault of ours."""

    status: Literal["failed"] = "failed"
    error: str
    traceback: str | None = None
    seconds: Seconds = Seconds()


_ANY_RUN: TypeAdapter[RunRecord | FailedRun] = TypeAdapter(
    Annotated[RunRecord | FailedRun, Discriminator("status")]
)


def read_run(path: Path) -> RunRecord | FailedRun:
    """Read the record of a run.

    Raises:
        AdapterError: It is missing, damaged, or written by a newer version.
    """
    return read_as(_ANY_RUN, path)


class TestResult(Record):
    """The score of one run on test, with what it predicted row by row.

    ``adapter_digest`` says which tensors were scored; version 0.1 did not write it.
    """

    __test__ = False  # it is no test, whatever pytest makes of its name

    run: str
    score_test: float
    scores: dict[str, float]
    invalid: int = 0
    predictions: tuple[int | float | str | tuple[str, ...] | None, ...] = ()
    labels: tuple[int | float | str | tuple[str, ...], ...] = ()
    adapter_digest: str | None = None


class RetentionRecord(Record):
    """What a run has left of what its base knew (``tasks/retention.py``).

    Attributes:
        measure: What was measured, in words, with its unit.
        before: Of the base.
        after: Of the trained model.
        forgetting: What was lost; below zero, what was gained.
    """

    run: str
    measure: str
    before: float
    after: float
    forgetting: float
    adapter_digest: str | None = None


def _as_it_was(settings: JsonValue) -> JsonValue:
    """Say in settings of before what they did not say: the small model read what was held out."""
    task = settings.get("task") if isinstance(settings, dict) else None
    small = task.get("small") if isinstance(task, dict) else None
    if isinstance(settings, dict) and isinstance(task, dict) and isinstance(small, dict):
        small = {"reads_held_out": True, **small}
        return {**settings, "task": {**task, "small": small}}
    return settings


def _run_settings(settings: JsonValue, *, of: str) -> RunSettings:
    if isinstance(settings, dict) and isinstance(plugins := settings.get("plugins"), list):
        check_plugins(map(str, plugins), what=of)
    try:
        return RunSettings.model_validate(_as_it_was(settings))
    except ValidationError as error:
        raise AdapterError(
            f"the settings of {of} are not of this version ({error}): run it again"
        ) from None
