"""The settings of an adapter: which it is, and its options."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import PositiveFloat, PositiveInt, model_validator

from rankwise.training.settings.base import Fraction, Settings, setting
from rankwise.training.settings.kinds import Kinds


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
    rank_budget: PositiveInt | None = setting(
        None,
        "place ranks, at most r or those of rank_pattern and none in some layers, where so many "
        "trained parameters follow most of the gradient; null: r in every layer",
        unit="parameters",
        is_later=True,
    )
    rank_samples: PositiveInt = setting(
        50, "training rows of the gradient that places ranks", unit="rows", is_later=True
    )
    rank_placement: Literal["gradient", "random"] = setting(
        "gradient", "random: a control, ranks of the same budget drawn by the seed", is_later=True
    )

    @model_validator(mode="after")
    def _check_ranks(self) -> FactoredSettings:
        if self.rank_budget is None and (self.rank_samples, self.rank_placement) != (
            50,
            "gradient",
        ):
            raise ValueError(
                f"rank_samples {self.rank_samples} and rank_placement {self.rank_placement!r} have "
                "no effect without rank_budget: set it too"
            )
        return self


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
    riemannian_reg: PositiveFloat | None = setting(
        None,
        "Riemannian preconditioning of both factors' gradients, with so much on the diagonals, "
        "0.01 in PEFT; null: none",
        unit="number",
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


ADAPTER_KINDS = Kinds(
    "kind", FullSettings, LoraSettings, LoraXsSettings, DeloraSettings, PeftSettings
)
AdapterSettings = Annotated[
    FullSettings | LoraSettings | LoraXsSettings | DeloraSettings | PeftSettings, ADAPTER_KINDS
]
