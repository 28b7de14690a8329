"""The settings of a method: a section for each of the three axes, adapter, init and schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rankwise.functional.sketch_kinds import SKETCH_KINDS, ChainSide, Kind
from rankwise.training.settings.base import Settings, setting
from rankwise.training.settings.kinds import Kinds, Names

Fraction = Annotated[float, Field(ge=0, lt=1)]
SketchKind = Annotated[Kind, Names(SKETCH_KINDS)]
Sampling = Literal["random", "first"]
_SAMPLING = "which training rows these are: drawn by the seed, or the first (as version 0.1 did)"


class FullSettings(Settings):
    """No adapter: every weight of the model trains."""

    kind: Literal["full"] = "full"
    only_biases: bool = setting(False, "train biases and the head alone (BitFit)", is_later=True)


class TargetSettings(Settings):
    """Which layers an adapter is on."""

    target_modules: list[str] | str | None = setting(
        None, "adapted layers: names, a regular expression or all-linear; null: the task's"
    )


class FactoredSettings(TargetSettings):
    """What all factored adapters have."""

    dropout: Fraction = setting(0.0, "dropout on the adapter's input", unit="ratio")
    rank_pattern: dict[str, PositiveInt] = setting(
        {}, "ranks of single layers, by name or regular expression", unit="rank"
    )


class LoraSettings(FactoredSettings):
    """PEFT's LoRA, ΔW = (alpha / r) B A."""

    kind: Literal["lora"] = "lora"
    alpha: PositiveFloat | None = setting(
        None, "the change is scaled by alpha / r; null: r, a scaling of 1", unit="number"
    )
    use_rslora: bool = setting(
        False, "rsLoRA: the change is scaled by alpha / √r instead", is_later=True
    )
    loraplus_lr_ratio: PositiveFloat | None = setting(
        None,
        "LoRA+: B takes so many times the learning rate of A, 16 in the paper; null: the same",
        unit="ratio",
        is_later=True,
    )

    @model_validator(mode="after")
    def _check_rslora(self) -> LoraSettings:
        if self.use_rslora and self.alpha is None:
            raise ValueError("use_rslora has no effect without alpha: set adapter.alpha too")
        return self


class LoraXsSettings(FactoredSettings):
    """ΔW = (alpha / r) B R A with B and A frozen."""

    kind: Literal["lora_xs"] = "lora_xs"
    alpha: PositiveFloat | None = setting(
        None, "the change is scaled by alpha / r; null: r, a scaling of 1", unit="number"
    )
    gradient_correction: bool = setting(
        False,
        "train R by the gradient that is nearest to the weight's at any scaling (Theorem 3)",
        is_later=True,
    )


class DeloraSettings(FactoredSettings):
    """Normalised rank-1 terms with the strength λ."""

    kind: Literal["delora"] = "delora"
    delora_lambda: PositiveFloat = setting(
        4.0, "the strength λ of the change at the start", unit="number"
    )
    learn_lambda: bool = setting(True, "train λ; false keeps it, and with it the bound on ‖ΔW‖")
    lambda_learning_rate: PositiveFloat | None = setting(
        None, "learning rate of λ; null: the run's own", unit="per step"
    )
    weight_norms: Literal["columns", "matrix", "none"] = setting(
        "columns",
        "the change is scaled by ‖W‖ of each column, of the whole weight, or not at all",
        is_later=True,
    )
    normalise: bool = setting(
        True, "scale the rank-1 terms to length one; false: an ablation", is_later=True
    )
    residual_lambda: Literal["current", "initial"] = setting(
        "current",
        "which λ scales the frozen first change: the present one, or the paper's λ₀",
        is_later=True,
    )


class PeftSettings(TargetSettings):
    """Any config of PEFT, by its type and options; ``r`` is passed on to those that have one."""

    kind: Literal["peft"] = "peft"
    peft_type: str = setting("LORA", "PEFT's name of the adapter, such as VERA or IA3")
    options: dict[str, Any] = setting({}, "options of its config, in PEFT's words")


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
    samples: PositiveInt = setting(50, "training rows whose gradients are summed", unit="rows")
    directions: Literal["own", "random"] = setting(
        "own",
        "random: a control, the magnitude and the spectrum of this start in random directions",
        is_later=True,
    )
    sampling: Sampling = setting("random", _SAMPLING, before="first")


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
    sampling: Sampling = setting("random", _SAMPLING, before="first")
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


class SingleSchedule(Settings):
    """One adapter from beginning to end."""

    kind: Literal["single"] = "single"


class FrozenSchedule(Settings):
    """One adapter whose one factor is a frozen random sketch (AsymmLoRA)."""

    kind: Literal["frozen"] = "frozen"
    side: Literal["left", "right"] = setting(
        "left", "which factor is the frozen sketch: left = B, right = A"
    )
    sketch: SketchKind = setting("gaussian", "how the frozen factor is drawn")
    gradient_samples: PositiveInt = setting(
        256, "training rows of the gradient that sketch gradient takes", unit="rows"
    )
    gradient_sampling: Sampling = setting("random", _SAMPLING, before="first")


class ChainSchedule(Settings):
    """A chain of adapters, folded and restarted (COLA: side both; RAC-LoRA: left or right)."""

    kind: Literal["chain"] = "chain"
    side: ChainSide | None = setting(
        None,
        "which factor of a LoRA is a frozen sketch: left = B, right = A; both: both train and A "
        "begins at random; both-left: both train and B does; null: left, and none of lora_xs and "
        "delora, where both factors begin as sketches",
    )
    sketch: SketchKind | None = setting(
        None,
        "how what begins at random is drawn; null: gaussian, for both and delora kaiming, for "
        "lora_xs orthonormal",
    )
    every_epochs: PositiveInt | None = setting(
        3, "epochs of a block, until it folds; null: one block, which never folds", unit="epochs"
    )
    reset_optimizer: bool = setting(True, "forget the optimizer's moments at a fold")
    warmup_steps: int = setting(
        0, "steps of warm-up after a fold; training.loop trainer only", unit="steps", ge=0
    )
    final_rank: PositiveInt | None = setting(
        None, "compress the finished chain to this rank; null: keep all of it", unit="rank"
    )
    gradient_samples: PositiveInt = setting(
        256, "training rows of the gradient that sketch gradient takes", unit="rows"
    )
    gradient_sampling: Sampling = setting("random", _SAMPLING, before="first")


ADAPTER_KINDS = Kinds(
    "kind", FullSettings, LoraSettings, LoraXsSettings, DeloraSettings, PeftSettings
)
AdapterSettings = Annotated[
    FullSettings | LoraSettings | LoraXsSettings | DeloraSettings | PeftSettings, ADAPTER_KINDS
]
INIT_KINDS = Kinds("kind", RandomInit, UpdateInit, BoundaryInit, SavedInit)
InitSettings = Annotated[RandomInit | UpdateInit | BoundaryInit | SavedInit, INIT_KINDS]
ScheduleSettings = Annotated[
    SingleSchedule | FrozenSchedule | ChainSchedule, Field(discriminator="kind")
]


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
        if self.init.kind != "random" and self.adapter.kind in ("full", "peft"):
            raise ValueError(
                f"init.kind {self.init.kind!r} needs an adapter of kind lora, lora_xs or delora, "
                f"got {self.adapter.kind!r}: use init.kind 'random'"
            )
        return self


def _part(data: Any, name: str) -> dict[str, Any]:
    """Return a section that is given as a mapping; what is none is told when it is validated."""
    found = data.get(name) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}
