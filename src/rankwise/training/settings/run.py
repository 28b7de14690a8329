"""The settings of a run and of a comparison: small, strict, immutable.

One model serves every command. An unknown key is an error; a named method fills the parts that the
user leaves open (``methods/table.py``). Settings stop in this folder: they are unpacked into plain
arguments.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rankwise.core.errors import nearest_names
from rankwise.training.settings.base import Settings
from rankwise.training.settings.federated import FederatedSettings
from rankwise.training.settings.method import ChainSchedule, Fraction, MethodSettings
from rankwise.training.settings.task import (
    DigitsSettings,
    TaskSettings,
    dtype_of,
    trains_on_validation,
)


class TrainingSettings(Settings):
    """How the trainable parameters are trained: AdamW and a learning-rate schedule."""

    epochs: PositiveInt = 30
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 1e-3
    weight_decay: float = Field(default=0.01, ge=0)
    scheduler: Literal["constant", "linear", "cosine"] = "constant"
    warmup_ratio: Fraction = 0.0
    max_grad_norm: PositiveFloat | None = None
    accumulation_steps: PositiveInt = Field(
        default=1, description="batches whose gradients make one optimizer step"
    )
    bf16: bool = Field(default=False, description="compute in bfloat16, weights stay as they are")
    gradient_checkpointing: bool = Field(
        default=False, description="less memory for more time: recompute activations"
    )
    group_by_length: bool = Field(
        default=True, description="batches of rows of like lengths, where rows differ in them"
    )
    keep: Literal["last", "best"] = Field(
        default="last",
        description="whose weights are kept: the last epoch's, or the best on validation",
    )
    report_to: list[str] = Field(
        default_factory=list, description="trackers of Transformers' Trainer, such as tensorboard"
    )
    patience: PositiveInt | None = Field(
        default=None, description="stop after so many epochs without a lower validation loss"
    )
    loop: Literal["lean", "trainer"] = Field(
        default="trainer", description="lean: a plain loop for tiny models, equal to the Trainer"
    )


_TRAINER_ONLY = ("accumulation_steps", "bf16", "gradient_checkpointing", "keep", "report_to")


class RunSettings(Settings):
    """One run: everything that determines its result."""

    task: TaskSettings = DigitsSettings()
    method: MethodSettings
    training: TrainingSettings = TrainingSettings()
    seed: int = Field(default=0, ge=0)

    @property
    def name(self) -> str:
        """A readable name that differs where any setting of the run differs."""
        # What a paper reports, where data lie and who is told change nothing about the run.
        elsewhere: Any = {
            "method": {"published", "published_parameters"},
            "task": {"data_root"},
            "training": {"report_to"},
        }
        if dtype_of(self.task) == "float32":
            # Runs had their names before there was a choice.
            elsewhere["task"].add("dtype")
        settings = self.model_dump_json(exclude=elsewhere)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        rate = f"{self.training.learning_rate:g}"
        rank = "" if self.method.rank is None else f"-r{self.method.rank}"
        return f"{self.method.title}{rank}-lr{rate}-s{self.seed}-{digest}"

    @model_validator(mode="after")
    def _check_loop(self) -> RunSettings:
        if self.training.loop == "trainer":
            return self
        schedule, defaults = self.method.schedule, TrainingSettings()
        needy = {
            f"training.{name}": value
            for name in _TRAINER_ONLY
            if (value := getattr(self.training, name)) != getattr(defaults, name)
        }
        if isinstance(schedule, ChainSchedule) and schedule.warmup_steps:
            needy["schedule.warmup_steps"] = schedule.warmup_steps
        for name, value in needy.items():
            raise ValueError(f"{name} {value!r} needs training.loop 'trainer', got 'lean'")
        return self

    @model_validator(mode="after")
    def _check_dtype(self) -> RunSettings:
        dtype = dtype_of(self.task)
        if self.method.adapter.kind == "full" and dtype != "float32":
            raise ValueError(
                f"method {self.method.name!r} trains the weights themselves, and in task.dtype "
                f"{dtype!r} small updates round away: use task.dtype 'float32', with training.bf16 "
                "to compute in bfloat16"
            )
        return self

    @model_validator(mode="after")
    def _check_protocol(self) -> RunSettings:
        chooses = self.training.keep == "best" or self.training.patience is not None
        if trains_on_validation(self.task) and chooses:
            raise ValueError(
                "task.protocol 'final' trains on the validation rows too: nothing may be chosen by "
                f"them, got training.keep {self.training.keep!r} and training.patience "
                f"{self.training.patience!r}"
            )
        return self


class ComparedMethod(MethodSettings):
    """A method of a comparison, and what its runs have otherwise than the others'."""

    task: dict[str, Any] = Field(default_factory=dict, description="such as {rows: 500}")
    training: dict[str, Any] = Field(default_factory=dict, description="such as {epochs: 3}")

    def run(self, common: RunSettings, *, learning_rate: float, seed: int) -> RunSettings:
        """Return one run: ``common`` with this method, its own settings, a rate and a seed."""
        own = {"task": self.task, "training": self.training | {"learning_rate": learning_rate}}
        tree = common.model_dump()
        method = self.model_dump(exclude={"task", "training"})
        return RunSettings.model_validate(
            {name: tree[name] | part for name, part in own.items()}
            | {"method": method, "seed": seed}
        )


class ComparisonSettings(Settings):
    """Methods × learning rates × seeds on one task."""

    methods: tuple[ComparedMethod, ...] = Field(min_length=1)
    learning_rates: tuple[PositiveFloat, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    budgets: list[str] | None = Field(
        default=None, description="the budgets that are run; None: all of them"
    )
    sweep_seeds: PositiveInt | None = Field(
        default=None, description="seeds on which rates are swept, the rest at the best; None: all"
    )
    baseline: str = Field(default="lora", description="the method that others are measured against")
    widenings: int = Field(
        default=4, ge=0, description="times that a grid may grow while its edge is best"
    )

    @property
    def chosen_methods(self) -> tuple[ComparedMethod, ...]:
        """The methods of the chosen budgets."""
        if self.budgets is None:
            return self.methods
        return tuple(method for method in self.methods if method.budget in self.budgets)

    @model_validator(mode="after")
    def _check_budgets(self) -> ComparisonSettings:
        known = {method.budget for method in self.methods}
        for budget in self.budgets or []:
            if budget not in known:
                raise ValueError(f"budgets: no {budget!r}; {nearest_names(budget, known)}")
        return self

    @model_validator(mode="after")
    def _check_sweep_seeds(self) -> ComparisonSettings:
        if self.sweep_seeds is not None and self.sweep_seeds > len(self.seeds):
            raise ValueError(
                f"sweep_seeds must be at most the number of seeds, {len(self.seeds)}, "
                f"got {self.sweep_seeds}"
            )
        return self


class Recipe(Settings):
    """What a YAML file holds: one run, its comparison and its federation."""

    task: TaskSettings = DigitsSettings()
    method: MethodSettings
    training: TrainingSettings = TrainingSettings()
    seed: int = Field(default=0, ge=0)
    compare: ComparisonSettings | None = None
    federated: FederatedSettings = FederatedSettings()

    @model_validator(mode="after")
    def _check_own_settings(self) -> Recipe:
        """Refuse a comparison of which a run could not be made, before any is."""
        for method in self.compare.methods if self.compare else ():
            method.run(self.run(), learning_rate=self.training.learning_rate, seed=self.seed)
        return self

    def run(self) -> RunSettings:
        """Return the single run that the recipe describes."""
        return RunSettings(
            task=self.task, method=self.method, training=self.training, seed=self.seed
        )
