"""A plugin as a user writes one: an adapter, an init, a sketch, a task, a metric, two methods."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Literal

import torch
from peft import PeftConfig
from torch import Tensor

from rankwise.evaluation.metrics import Metric
from rankwise.functional.sketches import add_sketch
from rankwise.methods.adapters.bridge import adapted_layers
from rankwise.methods.adapters.factored import FactoredLinear
from rankwise.methods.adapters.fused_linear import Factors
from rankwise.methods.adapters.peft_types import register
from rankwise.methods.adapters.tuner import FactoredTuner
from rankwise.methods.table import Method
from rankwise.tasks.digits import DigitsTask
from rankwise.tasks.table import TaskFacts
from rankwise.training.plugins import add_adapter, add_init, add_method, add_metric, add_task
from rankwise.training.records import InitializationRecord
from rankwise.training.settings.adapters import FactoredSettings
from rankwise.training.settings.base import Settings, setting


class PeftType(str, Enum):  # noqa: UP042
    """PEFT's tables are looked up by string."""

    TOY_DIAGONAL = "TOY_DIAGONAL"


@dataclass
class DiagonalConfig(PeftConfig):
    """ΔW = B diag(d) A with B and A frozen."""

    r: int = 4
    target_modules: list[str] | set[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    layers_to_transform: list[int] | None = None
    layers_pattern: list[str] | None = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    modules_to_save: list[str] | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType.TOY_DIAGONAL  # type: ignore[assignment]
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)


class DiagonalLinear(FactoredLinear):
    """One formula: everything else an adapter does is inherited."""

    adapter_layer_names = ("toy_diagonal_d",)
    frozen_names = ("toy_diagonal_B", "toy_diagonal_A")

    def update_layer(
        self, adapter_name: str, *, r: int, config: DiagonalConfig, module_name: str
    ) -> None:
        self._allocate(adapter_name, r=r, dropout=config.dropout)
        if self._is_to_be_loaded(adapter_name, config):
            return
        d, B, A = self.parts(adapter_name)
        with torch.no_grad():
            d.zero_()
            B.copy_(torch.randn(B.shape))
            A.copy_(torch.randn(A.shape))

    def product(self, adapter_name: str, dtype: torch.dtype | None = None) -> Factors:
        d, B, A = self._parts_in(adapter_name, dtype)
        return B * d, None, A

    def write_factors(self, adapter_name: str, B: Tensor, R: Tensor, A: Tensor) -> None:
        raise NotImplementedError

    def _part_shapes(self, r: int) -> list[tuple[int, ...]]:
        return [(r,), (self.out_features, r), (r, self.in_features)]


class DiagonalModel(FactoredTuner):
    """PEFT's tuner for it."""

    prefix = "toy_diagonal_"
    tuner_layer_cls = linear_class = DiagonalLinear
    target_module_mapping: ClassVar[dict[str, Any]] = {}


class DiagonalSettings(FactoredSettings):
    """Its settings."""

    kind: Literal["toy-diagonal"] = "toy-diagonal"


class ConstantInit(Settings):
    """Every d begins at one value."""

    kind: Literal["toy-constant"] = "toy-constant"
    value: float = setting(0.01, "where every d begins", unit="number")


class HalfSettings(Settings):
    """Digits with half of the training rows."""

    name: Literal["toy-half-digits"] = "toy-half-digits"
    pretrain_epochs: int = setting(3, "epochs that make the base model", unit="epochs")


@dataclass(frozen=True)
class HalfDigits(DigitsTask):
    """Digits under another name and with a metric of ours."""

    name = "toy-half-digits"
    metrics = ("toy-hits",)


def _start_constant(init: ConstantInit, job: Any, _: Any) -> InitializationRecord:
    for layer in adapted_layers(job.model).values():
        with torch.no_grad():
            layer.parts("default")[0].fill_(init.value)
    return InitializationRecord()


def _signs(size: int, r: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (size, r), generator=generator).double() * 2 - 1


def _hits(predictions: Any, labels: Any) -> float:
    return sum(p == y for p, y in zip(predictions, labels, strict=True)) / len(labels)


register(PeftType.TOY_DIAGONAL, DiagonalConfig, DiagonalModel)
add_adapter(
    DiagonalSettings,
    lambda adapter, placement: DiagonalConfig(**placement.options, dropout=adapter.dropout),
)
add_init(ConstantInit, _start_constant)
add_sketch("toy-signs", _signs)
add_metric("toy-hits", Metric(_hits, 0.0, 1.0))
add_task(
    HalfSettings,
    lambda settings, _: HalfDigits(pretrain_epochs=settings.pretrain_epochs),
    {"toy-half-digits": TaskFacts(1, ("toy-hits",))},
)
add_method(
    "toy-diagonal",
    Method("d trains", "-", {"kind": "toy-diagonal"}, {"kind": "toy-constant"}),
)
add_method(
    "toy-chain",
    Method("a chain of signs", "-", schedule={"kind": "chain", "sketch": "toy-signs"}),
)
