"""The settings of a run: small, strict, immutable.

One model serves every command. An unknown key is an error; a named method fills the parts that the
user leaves open (``methods/table.py``). Settings stop in this folder: they are unpacked into plain
arguments.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import PositiveFloat, PositiveInt, model_validator

from rankwise.tasks.generation.definitions import SMALL
from rankwise.training.settings.base import Fraction, Settings, later_defaults, setting
from rankwise.training.settings.layers import laid_over
from rankwise.training.settings.method import MethodSettings
from rankwise.training.settings.schedules import ChainSchedule
from rankwise.training.settings.task import (
    DigitsSettings,
    TaskSettings,
    dtype_of,
    trains_on_validation,
)


class TrainingSettings(Settings):
    """How the trainable parameters are trained: AdamW and a learning-rate schedule."""

    epochs: PositiveInt = setting(30, "passes over the training rows", unit="epochs")
    batch_size: PositiveInt = setting(32, "rows of a batch", unit="rows")
    learning_rate: PositiveFloat = setting(
        1e-3, "the highest learning rate, after warm-up", unit="per step"
    )
    optimizer: Literal["adamw", "sgd", "muon"] = setting(
        "adamw",
        "AdamW, plain gradient steps, or Muon on an adapter's factors and AdamW on the rest",
        is_later=True,
    )
    momentum: float = setting(
        0.0, "of training.optimizer sgd", unit="ratio", ge=0, lt=1, is_later=True
    )
    weight_decay: float = setting(0.01, "the optimizer's decay of matrices", unit="ratio", ge=0)
    scheduler: Literal["constant", "linear", "cosine"] = setting(
        "constant", "how the learning rate falls after warm-up"
    )
    warmup_ratio: Fraction = setting(
        0.0, "share of all steps over which the learning rate rises from zero", unit="ratio"
    )
    max_grad_norm: PositiveFloat | None = setting(
        None, "gradients longer than this are scaled down to it; null: never", unit="norm"
    )
    accumulation_steps: PositiveInt = setting(
        1, "batches whose gradients make one optimizer step", unit="batches"
    )
    bf16: bool = setting(False, "compute in bfloat16; weights stay as they are")
    gradient_checkpointing: bool = setting(
        False, "save memory for time: compute activations again in the backward pass"
    )
    group_by_length: bool = setting(
        True, "batch rows of like lengths together, where rows differ in length"
    )
    keep: Literal["last", "best"] = setting(
        "last", "whose weights are kept: the last epoch's, or the best on validation"
    )
    logging_steps: PositiveInt | None = setting(
        None,
        "record loss, learning rate and gradient norm after every so many steps; null: never",
        unit="steps",
        is_later=True,
    )
    diagnostics: bool = setting(
        True,
        "measure on the way how far weights have moved and what the next steps can follow; it "
        "changes nothing, and costs the time of some two dozen steps",
        is_later=True,
    )
    report_to: list[str] = setting(
        [], "trackers that Transformers' Trainer reports to, such as tensorboard"
    )
    patience: PositiveInt | None = setting(
        None,
        "stop after so many epochs without a lower validation loss; null: never",
        unit="epochs",
    )
    loop: Literal["lean", "trainer"] = setting(
        "trainer", "Transformers' Trainer, or a lean loop for tiny models that does the same"
    )

    @model_validator(mode="after")
    def _check_momentum(self) -> TrainingSettings:
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(
                f"momentum {self.momentum!r} is of optimizer 'sgd', got {self.optimizer!r}"
            )
        return self


PLUGINS = "modules of your own that add adapters, inits, tasks and more"
# What a paper reports, where data lie and who is told change nothing about the run.
_ELSEWHERE = {
    "method": {"published": True, "published_parameters": True},
    "task": {"data_root": True},
    "training": {"report_to": True, "logging_steps": True, "diagnostics": True},
}
# What nobody has tried under torch.func.vmap, such as any adapter of PEFT, is trained alone.
_STACKABLE = ("full", "lora", "lora_xs", "delora")
_TRAINER_ONLY = ("accumulation_steps", "bf16", "gradient_checkpointing", "keep", "report_to")


class RunSettings(Settings):
    """One run: everything that determines its result."""

    task: TaskSettings = DigitsSettings()
    method: MethodSettings
    training: TrainingSettings = TrainingSettings()
    seed: int = setting(0, "decides all randomness of a run", unit="number", ge=0)
    plugins: list[str] = setting([], PLUGINS, is_later=True)

    @property
    def name(self) -> str:
        """A readable name that differs where any setting of the run differs."""
        left_out = laid_over(later_defaults(self), _ELSEWHERE)
        if getattr(self.method.schedule, "sketch", "gradient") != "gradient":
            left_out = laid_over(left_out, {"method": {"schedule": {"gradient_sampling": True}}})
        if getattr(self.task, "model", None) != SMALL:
            left_out = laid_over(left_out, {"task": {"small": {"reads_held_out": True}}})
        if getattr(self.task, "data_digest", None) is not None:
            # The same files in another place are the same data.
            left_out = laid_over(left_out, {"task": {"data": True}})
        settings = self.model_dump_json(exclude=left_out)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        rate = f"{self.training.learning_rate:g}"
        rank = "" if self.method.rank is None else f"-r{self.method.rank}"
        return f"{self.method.title}{rank}-lr{rate}-s{self.seed}-{digest}"

    @property
    def is_stackable(self) -> bool:
        """Whether runs that differ in learning rate and seed alone may be trained in lockstep.

        That takes the lean loop, AdamW as it is, an adapter of a known kind, no random numbers
        while training, folds at steps that are known, and nobody who looks at single steps.
        """
        adapter, training = self.method.adapter, self.training
        is_random = getattr(adapter, "dropout", 0.0) > 0
        changes = ("gradient_correction", "riemannian_reg")  # gradients before a step
        is_plain = training.optimizer == "adamw" and not any(
            getattr(adapter, name, None) for name in changes
        )
        is_plain = is_plain and training.logging_steps is None and not is_random
        # Each run looks at its own block, and folds when that says so.
        is_plain = is_plain and getattr(self.method.schedule, "captured_below", None) is None
        return training.loop == "lean" and adapter.kind in _STACKABLE and is_plain

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
    def _check_optimizer(self) -> RunSettings:
        adapter, optimizer = self.method.adapter, self.training.optimizer
        if optimizer == "muon" and getattr(adapter, "riemannian_reg", None) is not None:
            raise ValueError(
                "method.adapter.riemannian_reg would change the scale of gradients, of which "
                "training.optimizer 'muon' takes the directions alone: leave one out"
            )
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
    def _check_quantization(self) -> RunSettings:
        quantization = getattr(self.task, "quantization", None)
        if self.method.adapter.kind == "full" and quantization is not None:
            raise ValueError(
                f"method {self.method.name!r} trains the weights themselves, which cannot be done "
                f"in task.quantization {quantization!r}: clear it, or name a method with an adapter"
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
