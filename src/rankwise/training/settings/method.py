"""The settings of a method: a section for each of the three axes, adapter, init and schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import PositiveFloat, PositiveInt, model_validator

from rankwise.training.settings.adapters import AdapterSettings, DeloraSettings
from rankwise.training.settings.base import Fraction, Settings, setting
from rankwise.training.settings.kinds import Kinds
from rankwise.training.settings.schedules import (
    SAMPLING,
    ChainSchedule,
    Sampling,
    ScheduleSettings,
)


class RandomInit(Settings):
    """The adapter's own random start."""

    kind: Literal["random"] = "random"


class UpdateInit(Settings):
    """LoRA-SB: the truncated SVD of the estimated first update of full fine-tuning."""

    kind: Literal["update"] = "update"
    mode: Literal["sign", "raw", "kaiming"] = setting(
        "sign",
        "the update of AdamW's first step (the gradient's signs), the gradient itself, or for an "
        "ablation a random matrix instead",
    )
    sum_over: Literal["tokens", "samples"] = setting(
        "tokens",
        "what the summed losses are of: each token, or each row's mean (the formula)",
        is_later=True,
    )
    noise: float = setting(
        0.0,
        "standard deviation of Gaussian noise on the update, an ablation",
        unit="number",
        ge=0,
        is_later=True,
    )
    orthonormal: bool = setting(
        True,
        "B and A orthonormal; false: B takes the singular values and R is 1, an ablation",
        is_later=True,
    )
    start: Literal["update", "zero"] = setting(
        "update",
        "begin at the update itself, or at ΔW = 0 with factors along its directions alone",
        is_later=True,
    )
    samples: PositiveInt = setting(50, "training rows whose gradients are summed", unit="rows")
    directions: Literal["own", "random"] = setting(
        "own",
        "random: a control, the magnitude and the spectrum of this start in random directions",
        is_later=True,
    )
    sampling: Sampling = setting("random", SAMPLING, before="first")

    @model_validator(mode="after")
    def _check_start(self) -> UpdateInit:
        if self.start == "zero" and not self.orthonormal:
            raise ValueError(
                "orthonormal false puts the sizes of the update into B, and start 'zero' leaves "
                "them out: give one of the two"
            )
        return self


class BoundaryInit(Settings):
    """ABM: match the signs of the reference's pre-activations, with a margin."""

    kind: Literal["boundary"] = "boundary"
    reference: str = setting(
        "pretrained",
        "whose boundaries are matched: pretrained, task (a LoRA trained before, at the run's cost) "
        "or an adapter directory",
    )
    reference_learning_rate: PositiveFloat | None = setting(
        None, "learning rate that trains the reference task; null: the run's own", unit="per step"
    )
    reference_warmup_ratio: Fraction | None = setting(
        None,
        "warm-up of training the reference task; null: the run's own",
        unit="ratio",
        is_later=True,
    )
    reference_weight_decay: float | None = setting(
        None,
        "decay of training the reference task; null: the run's own",
        unit="ratio",
        ge=0,
        is_later=True,
    )
    margin: float = setting(0.5, "by which a sign must be right", unit="pre-activation", ge=0)
    steps: PositiveInt = setting(100, "optimizer steps of the matching", unit="steps")
    learning_rate: PositiveFloat = setting(3e-4, "learning rate of the matching", unit="per step")
    weight_decay: float = setting(0.01, "decay of the matching", unit="ratio", ge=0, is_later=True)
    last: PositiveInt | None = setting(
        None, "monitored blocks, counted from the output; null: half of them", unit="blocks"
    )
    layers: list[str] | None = setting(
        None,
        "monitored modules by their full names; null: the inputs of activations in last",
        is_later=True,
    )
    power: float = setting(
        2.0,
        "a monitored layer l of L weighs ((l + 1) / L) to this power",
        unit="number",
        ge=0,
        is_later=True,
    )
    reduction: Literal["mean", "sum"] = setting(
        "mean",
        "over neurons and layers: their mean (the released code) or sum (the paper)",
        is_later=True,
    )
    samples: PositiveInt = setting(128, "training rows that are matched", unit="rows")
    sampling: Sampling = setting("random", SAMPLING, before="first")
    batch_size: PositiveInt | None = setting(
        None, "rows of a matching step; null: training.batch_size", unit="rows"
    )
    directions: Literal["own", "random"] = setting(
        "own",
        "random: a control, the magnitude and the spectrum of this start in random directions",
        is_later=True,
    )


class SavedInit(Settings):
    """A start that `rankwise init` wrote before."""

    kind: Literal["saved"] = "saved"
    path: Path = setting(..., "the adapter directory")


INIT_KINDS = Kinds("kind", RandomInit, UpdateInit, BoundaryInit, SavedInit)
InitSettings = Annotated[RandomInit | UpdateInit | BoundaryInit | SavedInit, INIT_KINDS]


# Which adapters a schedule takes; what is not named takes any.
_ADAPTERS_OF: dict[str, tuple[str, ...]] = {
    "frozen": ("lora",),
    "chain": ("lora", "lora_xs", "delora"),
}


class MethodSettings(Settings):
    """A method: its name, its rank, and its choice on the three axes."""

    name: str = setting("lora", "a method of `rankwise list methods`")
    label: str | None = setting(
        None,
        "what tables and folders call it; null: its name",
        pattern=r"^[\w.,=+-]+$",
        max_length=50,
    )
    r: PositiveInt = setting(8, "rank of the adapter", unit="rank")
    budget: str = setting("", "label of a group of methods with equally many trainable parameters")
    published: float | None = setting(
        None, "the score that its paper reports, shown beside ours", unit="score"
    )
    published_parameters: str | None = setting(
        None,
        "the count that its paper reports, such as 55.3K, checked by --dry-run",
        pattern=r"^\d+(\.\d+)?[KMB]?$",
        unit="parameters",
    )
    adapter: AdapterSettings
    init: InitSettings
    schedule: ScheduleSettings

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.label or self.name

    @property
    def rank(self) -> int | None:
        """The rank, or None where there is no adapter."""
        return None if self.adapter.kind == "full" else self.r

    @property
    def side(self) -> str | None:
        """The side of the sketch, or None where there is none."""
        return getattr(self.schedule, "side", None)

    @model_validator(mode="before")
    @classmethod
    def _fill_side(cls, data: Any) -> Any:
        """Write out the side of a chain of LoRA, which the names of runs hold."""
        adapter, schedule = (_part(data, name) for name in ("adapter", "schedule"))
        if adapter.get("kind") == "lora" and schedule.get("kind") == "chain":
            return {**data, "schedule": {**schedule, "side": schedule.get("side") or "left"}}
        return data

    @model_validator(mode="after")
    def _check_combination(self) -> MethodSettings:
        adapter, schedule = self.adapter.kind, self.schedule
        taken = _ADAPTERS_OF.get(schedule.kind, (adapter,))
        if adapter not in taken:
            raise ValueError(
                f"schedule.kind {schedule.kind!r} works on adapter.kind "
                f"{' or '.join(map(repr, taken))}, got {adapter!r}: use schedule.kind 'single'"
            )
        if schedule.kind == "chain":
            _check_moments(schedule, adapter)
        if schedule.kind == "chain" and adapter != "lora" and schedule.side is not None:
            raise ValueError(
                f"schedule.side {schedule.side!r} says which factor of a LoRA is a sketch, and of "
                f"adapter.kind {adapter!r} both are: leave it out"
            )
        if self.init.kind != "random" and self.schedule.kind == "frozen":
            raise ValueError(
                f"init.kind {self.init.kind!r} would be overwritten by the frozen sketch: "
                "use init.kind 'random'"
            )
        if (
            isinstance(self.adapter, DeloraSettings)
            and isinstance(self.init, BoundaryInit)
            and self.init.directions == "random"
        ):
            raise ValueError(
                "init.directions 'random' keeps the spectrum of a change, and no DeLoRA has that "
                "of a matched one between other directions: use init.directions 'own'"
            )
        reg = getattr(self.adapter, "riemannian_reg", None)
        if reg is not None and self.side in ("left", "right"):
            raise ValueError(
                f"adapter.riemannian_reg needs both factors to train, got schedule.side "
                f"{self.side!r}, which freezes one: use a single adapter or schedule.side 'both'"
            )
        if self.init.kind != "random" and self.adapter.kind in ("full", "peft"):
            raise ValueError(
                f"init.kind {self.init.kind!r} needs an adapter of kind lora, lora_xs or delora, "
                f"got {self.adapter.kind!r}: use init.kind 'random'"
            )
        return self


def _check_moments(schedule: ChainSchedule, adapter: str) -> None:
    if schedule.moments not in (None, "kept") and not schedule.reset_optimizer:
        raise ValueError(
            f"schedule.reset_optimizer false keeps the moments, and schedule.moments "
            f"{schedule.moments!r} does not: leave reset_optimizer out"
        )
    if schedule.moments == "carried" and adapter == "delora":
        raise ValueError(
            "schedule.moments 'carried' needs factors that enter the change linearly, and "
            "adapter.kind 'delora' normalises its own: use 'reset' or 'kept'"
        )


def _part(data: Any, name: str) -> dict[str, Any]:
    """Return a section that is given as a mapping; what is none is told when it is validated."""
    found = data.get(name) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}
