"""The settings of a schedule: one adapter, one beside a frozen sketch, or a chain that folds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from rankwise.functional.sketch_kinds import SKETCH_KINDS, ChainSide, Kind, MomentsAtFold
from rankwise.methods.chain.fold_steps import FoldBelow, check_fractions
from rankwise.training.settings.base import Settings, setting
from rankwise.training.settings.kinds import Names

SketchKind = Annotated[Kind, Names(SKETCH_KINDS)]
Sampling = Literal["random", "first"]
SAMPLING = "which training rows these are: drawn by the seed, or the first (as version 0.1 did)"


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
    gradient_sampling: Sampling = setting("random", SAMPLING, before="first")


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
        3,
        "epochs of a block, until it folds; null: every_steps, fractions or captured_below say "
        "when, or it never folds",
        unit="epochs",
    )
    every_steps: PositiveInt | None = setting(
        None,
        "optimizer steps of a block, in the place of every_epochs",
        unit="steps",
        is_later=True,
    )
    fractions: list[float] = setting(
        [],
        "fractions of the run at which a block folds, in the place of every_epochs",
        is_later=True,
    )
    captured_below: float | None = setting(
        None,
        "captured share of the gradient below which a block folds, in the place of every_epochs; "
        "needs look_every",
        unit="ratio",
        is_later=True,
        gt=0,
        lt=1,
    )
    look_every: PositiveInt | None = setting(
        None,
        "optimizer steps of a block from one look at its captured share to the next",
        unit="steps",
        is_later=True,
    )
    least_steps: PositiveInt | None = setting(
        None,
        "optimizer steps before the first look at a block; null: look_every",
        unit="steps",
        is_later=True,
    )
    most_steps: PositiveInt | None = setting(
        None,
        "optimizer steps after which a block folds whatever it captures; null: none",
        unit="steps",
        is_later=True,
    )
    reset_optimizer: bool = setting(True, "forget the optimizer's moments at a fold")
    moments: MomentsAtFold | None = setting(
        None,
        "the optimizer's moments at a fold: reset, kept, or carried into the coordinates of the "
        "next block (lora, lora_xs); null: as reset_optimizer says",
        is_later=True,
    )
    warmup_steps: int = setting(
        0, "steps of warm-up after a fold; training.loop trainer only", unit="steps", ge=0
    )
    final_rank: PositiveInt | None = setting(
        None, "compress the finished chain to this rank; null: keep all of it", unit="rank"
    )
    gradient_samples: PositiveInt = setting(
        256,
        "training rows of the gradient that sketch gradient takes, and captured_below looks at",
        unit="rows",
    )
    gradient_sampling: Sampling = setting("random", SAMPLING, before="first")

    @property
    def is_one_block(self) -> bool:
        """Whether it never folds, as nothing says when."""
        when = (self.every_epochs, self.every_steps, self.fractions, self.captured_below)
        return not any(when)

    @property
    def below(self) -> FoldBelow | None:
        """What folds a block by the share of the gradient that it captures, if that is asked for.

        Raises:
            SettingsError: The numbers do not go together.
        """
        if self.captured_below is None:
            return None
        assert self.look_every is not None
        return FoldBelow(
            self.captured_below, self.look_every, self.least_steps or 1, self.most_steps
        )

    @model_validator(mode="after")
    def _check_folds(self) -> ChainSchedule:
        said = [
            f"{name} {value!r}"
            for name in ("every_epochs", "every_steps", "fractions", "captured_below")
            if (value := getattr(self, name))
        ]
        if len(said) > 1:
            raise ValueError(
                f"{' and '.join(said)} both say when to fold: set every_epochs to null, or leave "
                "one of the others out"
            )
        check_fractions(self.fractions)
        self._check_looks()
        return self

    def _check_looks(self) -> None:
        looks = {name: getattr(self, name) for name in ("look_every", "least_steps", "most_steps")}
        if self.captured_below is None:
            for name, value in looks.items():
                if value is not None:
                    raise ValueError(
                        f"{name} {value!r} says when to look at what is captured: set "
                        "captured_below, or leave it out"
                    )
        elif self.look_every is None:
            raise ValueError(
                f"captured_below {self.captured_below!r} needs look_every, the steps between looks "
                "at what is captured"
            )
        else:
            _ = self.below  # whose numbers go together, or it says why not


ScheduleSettings = Annotated[
    SingleSchedule | FrozenSchedule | ChainSchedule, Field(discriminator="kind")
]
