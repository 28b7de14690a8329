"""What is kept of a comparison: ``OUTPUT/summary.json``, a row a compared method."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Literal, TypeVar

from pydantic import Field, model_validator

from rankwise.core.records import Record
from rankwise.training.records import Json, MethodIdentity
from rankwise.training.settings.grid import Value


class ComparedRow(MethodIdentity):
    """A method beside the baseline.

    Attributes:
        score_mean: On test, over seeds.
        difference_mean: From the baseline, paired by seed, with its interval.
        difference_rows_mean: The same with an interval over seeds and test rows.
        p_value: Of Student's t over seeds, adjusted for the other methods of the group.
        permutation_p_value: Of a permutation test over seeds, adjusted likewise.
        effect_size: The difference over its standard deviation over seeds.
        detectable_difference: The smallest true difference that this many seeds would have shown
            with a chance of 80 %.
        seeds_needed: How many seeds would show the difference that was seen with this chance.
    """

    trainable_parameters: int | None = None
    score_mean: float | None = None
    difference_mean: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    difference_rows_mean: float | None = None
    difference_rows_low: float | None = None
    difference_rows_high: float | None = None
    p_value: float | None = None
    permutation_p_value: float | None = None
    effect_size: float | None = None
    detectable_difference: float | None = None
    seeds_needed: int | None = None

    @property
    def is_better(self) -> bool:
        """Whether the row is significantly better than the baseline."""
        return self.difference_low is not None and self.difference_low > 0

    @property
    def is_worse(self) -> bool:
        """Whether the row is significantly worse than the baseline."""
        return self.difference_high is not None and self.difference_high < 0

    @property
    def is_significant(self) -> bool:
        """Whether the row is significantly different from the baseline."""
        return self.is_better or self.is_worse


class DroppedPoint(Record):
    """A combination of settings that left the race, as it could no longer win.

    ``behind`` is the mean by which it was behind the best on the same ``seeds`` first seeds,
    ``chance`` that it would still have won.
    """

    learning_rate: float
    settings: dict[str, Value] = Field(default_factory=dict)
    seeds: int
    behind: float
    chance: float


class SummaryRow(ComparedRow):
    """One method of a comparison, with the settings that were chosen for it.

    Attributes:
        published: The score in the method's paper.
        learning_rates: All that were tried.
        swept: All values that were tried of other settings.
        settings: What was chosen of these.
        dropped: What left the race before its end.
        tuning_runs: Made to choose: those of the seeds that sweep a grid of several points.
        tuning_seconds: Of these.
        sweep_seconds: Of all runs of the method.
        score_low: Of the interval of the mean over the ``seeds`` whose ``scores`` are listed.
        steps_to_baseline: Until the mean validation score is that of the baseline at its end.
        forgetting_mean: What a run has lost of what the base knew, over seeds, in the measure that
            the summary names.
    """

    published: float | None = None
    sweep_seconds: float = 0.0
    learning_rates: tuple[float, ...] = ()
    swept: dict[str, tuple[Value, ...]] = Field(default_factory=dict)
    settings: dict[str, Value] = Field(default_factory=dict)
    dropped: tuple[DroppedPoint, ...] = ()
    tuning_runs: int = 0
    tuning_seconds: float = 0.0
    status: Literal["done", "failed"] = "done"
    error: str | None = None
    stored_bytes: int | None = None
    learning_rate: float | None = None
    score_validation: float | None = None
    score_low: float | None = None
    score_high: float | None = None
    init_seconds: float | None = None
    train_seconds: float | None = None
    peak_memory_bytes: int | None = None
    steps_to_baseline: int | None = None
    samples_to_baseline: int | None = None
    seconds_to_baseline: float | None = None
    forgetting_mean: float | None = None
    forgetting_low: float | None = None
    forgetting_high: float | None = None
    scores: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_scored(self) -> bool:
        """Whether the method came to a score on test."""
        return self.status == "done" and self.score_mean is not None

    @model_validator(mode="before")
    @classmethod
    def _read_old_status(cls, row: Any) -> Any:
        """Version 0.1 wrote ``ok`` and ``failed: REASON``."""
        status = row.get("status") if isinstance(row, dict) else None
        if status == "ok":
            return row | {"status": "done"}
        if isinstance(status, str) and status.startswith("failed: "):
            return row | {"status": "failed", "error": status.removeprefix("failed: ")}
        return row


class EqualRank(Record):
    """The methods of one rank, best first, beside the baseline of that rank."""

    r: int
    rows: tuple[ComparedRow, ...]
    verdict: tuple[str, ...] = ()


class Protocol(Record):
    """How a comparison was made.

    Attributes:
        sweep: Values of other settings that were tried of every method that has them.
        swept_seeds: The seeds with which the grids were swept.
        chosen_on: The split on which learning rates were chosen.
        interval: What the intervals are, in words.
        training: The settings that all runs share.
        command: What repeats the comparison.
        varied: The settings of an ablation.
    """

    learning_rates: tuple[float, ...] = ()
    sweep: dict[str, tuple[Value, ...]] = Field(default_factory=dict)
    swept_seeds: tuple[int, ...] = ()
    widenings: int = 0
    seeds: tuple[int, ...] = ()
    baseline: str
    chosen_on: str = "validation"
    interval: str = ""
    training: Json = Field(default_factory=dict)
    task: Json = Field(default_factory=dict)
    command: str = ""
    varied: tuple[str, ...] = ()


class Summary(Record):
    """What a comparison found; ``runs`` names the records that it rests on.

    Attributes:
        metric: In which the scores are; version 0.1 did not write it.
        headline: The finding in one sentence.
        headroom: Full fine-tuning beside the baseline of each budget.
        retention: What was measured of the base's own knowledge; empty where nothing was.
        fronts: By what costs, such as ``trainable_parameters``, the methods that no other beats at
            as low a cost, the cheapest first.
    """

    task: str
    metric: str = ""
    protocol: Protocol
    headline: str = ""
    verdict: tuple[str, ...] = ()
    headroom: tuple[ComparedRow, ...] = ()
    methods: tuple[SummaryRow, ...]
    equal_rank: tuple[EqualRank, ...] = ()
    retention: str = ""
    fronts: dict[str, tuple[MethodIdentity, ...]] = Field(default_factory=dict)
    runs: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """What the methods were trained on: the user's own file or folder, or else the task."""
        data = self.protocol.task.get("data")
        return (PurePath(data).name if isinstance(data, str) else "") or self.task

    @property
    def verdict_below(self) -> tuple[str, ...]:
        """The verdict as it stands below the headline: without what that has said already."""
        return tuple(sentence for sentence in self.verdict if sentence != self.headline)


Row = TypeVar("Row", bound=MethodIdentity)


def by_budget(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of each budget, budgets and rows in their order of appearance."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.budget, []).append(row)
    return groups
