"""The settings of a method: a section for each of the three axes, adapter, init and schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rankwise.training.settings.base import Settings

Fraction = Annotated[float, Field(ge=0, lt=1)]
SketchKind = Literal["gaussian", "orthonormal", "kaiming", "selector", "gradient"]


class FullSettings(Settings):
    """No adapter: every weight of the model trains."""

    kind: Literal["full"] = "full"


class TargetSettings(Settings):
    """Which layers an adapter is on."""

    target_modules: list[str] | str | None = Field(
        default=None, description="names, a regular expression, 'all-linear', or None: the task's"
    )


class FactoredSettings(TargetSettings):
    """What all factored adapters have."""

    dropout: Fraction = 0.0
    rank_pattern: dict[str, PositiveInt] = Field(
        default_factory=dict, description="ranks of single layers, by name or regular expression"
    )


class LoraSettings(FactoredSettings):
    """PEFT's LoRA, ΔW = (alpha / r) B A."""

    kind: Literal["lora"] = "lora"
    alpha: PositiveFloat | None = Field(default=None, description="None means r, a scaling of 1")


class LoraXsSettings(FactoredSettings):
    """ΔW = (alpha / r) B R A with B and A frozen."""

    kind: Literal["lora_xs"] = "lora_xs"
    alpha: PositiveFloat | None = Field(default=None, description="None means r, a scaling of 1")


class DeloraSettings(FactoredSettings):
    """Normalised rank-1 terms with the strength λ."""

    kind: Literal["delora"] = "delora"
    delora_lambda: PositiveFloat = 4.0
    learn_lambda: bool = True
    lambda_learning_rate: PositiveFloat | None = Field(
        default=None, description="None means the run's own"
    )


class PeftSettings(TargetSettings):
    """Any config of PEFT, by its type and options; ``r`` is passed on to those that have one."""

    kind: Literal["peft"] = "peft"
    peft_type: str = "LORA"
    options: dict[str, Any] = Field(default_factory=dict)


class RandomInit(Settings):
    """The adapter's own random start."""

    kind: Literal["random"] = "random"


class UpdateInit(Settings):
    """LoRA-SB: the truncated SVD of the estimated first update of full fine-tuning."""

    kind: Literal["update"] = "update"
    mode: Literal["sign", "raw"] = "sign"
    samples: PositiveInt = Field(default=50, description="training rows whose gradient is summed")


class BoundaryInit(Settings):
    """ABM: match the signs of the reference's pre-activations, with a margin."""

    kind: Literal["boundary"] = "boundary"
    reference: str = Field(
        default="pretrained",
        description="'pretrained', 'task' (a LoRA that is trained first, at the run's cost), or "
        "an adapter directory",
    )
    reference_learning_rate: PositiveFloat | None = Field(
        default=None, description="of 'task'; None is the run's own"
    )
    margin: float = Field(default=0.5, ge=0)
    steps: PositiveInt = 100
    learning_rate: PositiveFloat = 3e-4
    last: PositiveInt | None = Field(
        default=None, description="monitored blocks; None is the last half"
    )
    samples: PositiveInt = Field(default=128, description="training rows that are matched")
    batch_size: PositiveInt | None = Field(
        default=None, description="rows of a matching step; None is the training's"
    )


class SavedInit(Settings):
    """A start that `rankwise init` wrote before."""

    kind: Literal["saved"] = "saved"
    path: Path = Field(description="the adapter directory")


class SingleSchedule(Settings):
    """One adapter from beginning to end."""

    kind: Literal["single"] = "single"


class FrozenSchedule(Settings):
    """One adapter whose one factor is a frozen random sketch (AsymmLoRA)."""

    kind: Literal["frozen"] = "frozen"
    side: Literal["left", "right"] = Field(
        default="left", description="the frozen one: left = B, right = A"
    )
    sketch: SketchKind = "gaussian"
    gradient_samples: PositiveInt = Field(default=256, description="rows for the sketch 'gradient'")


class ChainSchedule(Settings):
    """A chain of adapters, folded and restarted (COLA: side both; RAC-LoRA: left or right)."""

    kind: Literal["chain"] = "chain"
    side: Literal["left", "right", "both"] = "left"
    sketch: SketchKind | None = Field(
        default=None, description="None: gaussian, for side both kaiming"
    )
    every_epochs: PositiveInt = 3
    reset_optimizer: bool = True
    warmup_steps: int = Field(
        default=0, ge=0, description="re-warmup after a fold; loop 'trainer' only"
    )
    final_rank: PositiveInt | None = Field(
        default=None, description="compress the finished chain to it"
    )
    gradient_samples: PositiveInt = Field(default=256, description="rows for the sketch 'gradient'")


AdapterSettings = Annotated[
    FullSettings | LoraSettings | LoraXsSettings | DeloraSettings | PeftSettings,
    Field(discriminator="kind"),
]
InitSettings = Annotated[
    RandomInit | UpdateInit | BoundaryInit | SavedInit, Field(discriminator="kind")
]
ScheduleSettings = Annotated[
    SingleSchedule | FrozenSchedule | ChainSchedule, Field(discriminator="kind")
]


class MethodSettings(Settings):
    """A method: its name, its rank, and its choice on the three axes."""

    name: str = "lora"
    label: str | None = Field(
        default=None, pattern=r"^[\w.,=+-]+$", description="shown in tables; None is the name"
    )
    r: PositiveInt = 8
    budget: str = Field(default="", description="label of the group of equal trainable parameters")
    published: float | None = Field(
        default=None, description="the score that its paper reports, shown beside ours"
    )
    published_parameters: str | None = Field(
        default=None,
        pattern=r"^\d+(\.\d+)?[KMB]?$",
        description="the count that its paper reports, such as 55.3K, checked by --dry-run",
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

    @model_validator(mode="after")
    def _check_combination(self) -> MethodSettings:
        plain = self.adapter.kind == "lora"
        if self.schedule.kind != "single" and not plain:
            raise ValueError(
                f"schedule.kind {self.schedule.kind!r} works on adapter.kind 'lora', "
                f"got {self.adapter.kind!r}: use schedule.kind 'single'"
            )
        if self.init.kind != "random" and self.schedule.kind == "frozen":
            raise ValueError(
                f"init.kind {self.init.kind!r} would be overwritten by the frozen sketch: "
                "use init.kind 'random'"
            )
        if self.init.kind != "random" and self.adapter.kind in ("full", "peft"):
            raise ValueError(
                f"init.kind {self.init.kind!r} needs an adapter of kind lora, lora_xs or delora, "
                f"got {self.adapter.kind!r}: use init.kind 'random'"
            )
        return self
