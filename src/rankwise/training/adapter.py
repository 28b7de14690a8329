"""From a method's settings to an adapter on a base model.

A new adapter is a line in ``CONFIGS``: its settings, and what makes PEFT's config of them.
"""

from __future__ import annotations

import contextlib
import math
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import peft
import torch
from peft import LoraConfig, PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import nn
from transformers.pytorch_utils import Conv1D

from rankwise.core.errors import ModelError, RankwiseError, SettingsError, nearest_names
from rankwise.core.seeds import derive_seed
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.adapters.quantised import keep_differentiable
from rankwise.methods.placement import place_ranks, placed_at_random, placed_evenly
from rankwise.tasks.splits import Batch
from rankwise.tasks.table import Task
from rankwise.training.build import settings_errors
from rankwise.training.settings.adapters import (
    DeloraSettings,
    FactoredSettings,
    FullSettings,
    LoraSettings,
    LoraXsSettings,
    PeftSettings,
)
from rankwise.training.settings.base import Settings
from rankwise.training.settings.method import MethodSettings


@dataclass(frozen=True)
class Placement:
    """What every adapter is told beside its own settings.

    Attributes:
        r: Its rank.
        target_modules: The layers that it is on, as PEFT takes them.
        modules_to_save: Modules that train in full beside it; PEFT keeps adapters out of them.
        seed: Of its random start.
    """

    r: int
    target_modules: list[str] | str
    modules_to_save: list[str] | None
    seed: int

    @property
    def options(self) -> dict[str, Any]:
        """The part that configs of PEFT take under these names."""
        return {
            "r": self.r,
            "target_modules": self.target_modules,
            "modules_to_save": self.modules_to_save,
        }


def attach_adapter(
    base: nn.Module,
    method: MethodSettings,
    *,
    task: Task,
    seed: int,
    batches: Sequence[Batch] | None = None,
) -> nn.Module:
    """Put the method's adapter on ``base``; the seed decides its random start.

    With ``adapter.kind`` full, the base itself is returned: every weight trains. With a
    ``rank_budget`` ranks are placed by the gradient over ``batches``; without these, as in a
    rehearsal, as if the gradients of all layers were alike.

    Raises:
        SettingsError: A rank, a target or an option does not fit the model.
    """
    adapter = method.adapter
    if isinstance(adapter, FullSettings):
        if adapter.only_biases:
            _freeze_all_but_biases(base, task)
        return base
    _check_targets(base, adapter.target_modules)
    keep_differentiable(base)
    targets = task.target_modules
    placement = Placement(
        method.r,
        adapter.target_modules or (targets if isinstance(targets, str) else list(targets)),
        _heads(base, task),
        derive_seed(seed, "adapter"),
    )
    config = CONFIGS[type(adapter)](adapter, placement)
    if isinstance(adapter, FactoredSettings) and adapter.rank_budget is not None:
        config = _with_placed_ranks(base, config, method, seed=seed, batches=batches)
    with _peft_errors(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # PEFT only warns of a rank_pattern that fits no layer, and goes on without it.
        warnings.filterwarnings("error", message="The following .* keys did not match")
        torch.manual_seed(placement.seed)
        try:
            with settings_errors("method"):
                return peft.get_peft_model(base, config)
        except RuntimeWarning as warning:
            raise SettingsError(f"method.adapter: {warning}") from None


def _with_placed_ranks(
    base: nn.Module,
    config: PeftConfig,
    method: MethodSettings,
    *,
    seed: int,
    batches: Sequence[Batch] | None,
) -> PeftConfig:
    adapter = method.adapter
    assert isinstance(adapter, FactoredSettings)
    # A frozen sketch costs nothing.
    trains = {"left": "A", "right": "B"}.get(method.side or "", "both")
    options: dict[str, Any] = {"budget": adapter.rank_budget, "trains": trains}
    with settings_errors("method.adapter.rank_budget"):
        if adapter.rank_placement == "random":
            return placed_at_random(base, config, seed=seed, **options).config
        if batches is None:
            return placed_evenly(base, config, **options).config
        return place_ranks(base, config, batches, **options).config


def _freeze_all_but_biases(base: nn.Module, task: Task) -> None:
    """Leave biases and the task's head to train (BitFit, Ben Zaken et al. 2022, arXiv 2106.10199).

    Raises:
        ModelError: The model has no bias.
    """
    heads = tuple(f"{name}." for name in task.head_modules)
    for name, parameter in base.named_parameters():
        parameter.requires_grad_(name.endswith("bias") or name.startswith(heads))
    if not any(name.endswith("bias") for name, _ in base.named_parameters()):
        raise ModelError(
            f"{type(base).__name__} has no biases: leave method.adapter.only_biases out"
        )


@contextlib.contextmanager
def _peft_errors() -> Iterator[None]:
    """Turn what PEFT refuses into an error about the adapter's settings.

    PEFT has no errors of its own, so its refusals are told from faults by where they were raised.
    """
    try:
        yield
    except (ValueError, TypeError, NotImplementedError) as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        if isinstance(error, RankwiseError) or not _is_of_peft(frames[-1]):
            raise
        raise SettingsError(f"method.adapter: {error}") from error


def _is_of_peft(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] == "peft"


def _check_targets(base: nn.Module, targets: list[str] | str | None) -> None:
    """Refuse a name that no module bears: PEFT does so only where none of several is borne."""
    names = [name for name, _ in base.named_modules()]
    if isinstance(targets, str) and targets.lower() != "all-linear":
        _check_pattern(base, targets, names)
    for target in targets if isinstance(targets, list) else ():
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise SettingsError(
                f"method.adapter.target_modules: {type(base).__name__} has no module {target!r}; "
                f"{nearest_names(target, _linear_names(base))}"
            )


def _check_pattern(base: nn.Module, pattern: str, names: list[str]) -> None:
    """Refuse a regular expression that is none, or that the whole name of no module matches."""
    try:
        if any(map(re.compile(pattern).fullmatch, names)):
            return
    except re.error as error:
        raise SettingsError(
            f"method.adapter.target_modules: {pattern!r} is no regular expression ({error})"
        ) from None
    raise SettingsError(
        f"method.adapter.target_modules: {pattern!r} is a regular expression that the whole name "
        f"of no module of {type(base).__name__} matches (a list takes the ends of names); "
        f"{nearest_names(pattern, _linear_names(base))}"
    )


def _linear_names(base: nn.Module) -> set[str]:
    """Return what the linear layers are called, once for all blocks."""
    full = {name for name, part in base.named_modules() if isinstance(part, nn.Linear | Conv1D)}
    last = {name: name.rpartition(".")[2] for name in full}
    # In a Sequential the last part of a name is a number, which tells nothing.
    return {name if last[name].isdecimal() else last[name] for name in full}


def _heads(base: nn.Module, task: Task) -> list[str] | None:
    children = [name for name, _ in base.named_children()]
    heads = [name for name in children if name in task.head_modules]
    if task.head_modules and not heads:
        raise ModelError(
            f"{type(base).__name__} has no head for task {task.name!r}, expected a module named "
            f"{' or '.join(task.head_modules)}, got {', '.join(children)}: choose a --task.model "
            "of an encoder"
        )
    return heads or None


def _lora(adapter: LoraSettings, placement: Placement) -> PeftConfig:
    def divisor(r: int) -> float:
        return math.sqrt(r) if adapter.use_rslora else r

    alpha = adapter.alpha or placement.r
    scaling = alpha / divisor(placement.r)
    # A pattern of ranks keeps the scaling: alpha follows the rank of each layer.
    alphas: dict[str, Any] = {
        name: scaling * divisor(r) for name, r in adapter.rank_pattern.items()
    }
    return LoraConfig(
        **placement.options,
        rank_pattern=adapter.rank_pattern,
        lora_dropout=adapter.dropout,
        lora_alpha=scaling * divisor(placement.r),  # type: ignore[arg-type]
        alpha_pattern=alphas,
        use_rslora=adapter.use_rslora,
    )


def _lora_xs(adapter: LoraXsSettings, placement: Placement) -> PeftConfig:
    return LoraXSConfig(
        **placement.options,
        rank_pattern=adapter.rank_pattern,
        lora_dropout=adapter.dropout,
        lora_alpha=adapter.alpha,
        seed=placement.seed,
    )


def _delora(adapter: DeloraSettings, placement: Placement) -> PeftConfig:
    return DeloraConfig(
        **placement.options,
        rank_pattern=adapter.rank_pattern,
        delora_lambda=adapter.delora_lambda,
        learn_lambda=adapter.learn_lambda,
        weight_norms=adapter.weight_norms,
        normalise=adapter.normalise,
        residual_lambda=adapter.residual_lambda,
        module_dropout=adapter.dropout,
    )


def _any_of_peft(adapter: PeftSettings, placement: Placement) -> PeftConfig:
    known = {
        str(getattr(kind, "value", kind)): cls for kind, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items()
    }
    if adapter.peft_type not in known:
        raise SettingsError(
            f"method.adapter.peft_type: PEFT has no type {adapter.peft_type!r}; "
            f"{nearest_names(adapter.peft_type, known)}"
        )
    kind = known[adapter.peft_type]
    fields = kind.__dataclass_fields__
    fitting = {name: value for name, value in placement.options.items() if name in fields}
    if adapter.peft_type == "ADALORA":  # the rank that is left when its budget is spent
        fitting["target_r"] = fitting.pop("r")
    if "oft_block_size" in adapter.options:  # the size of OFT's blocks, or their number
        fitting["r"] = 0
    try:
        return kind(**fitting | adapter.options)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"method.adapter.options: {error}") from None


CONFIGS: dict[type[Settings], Callable[[Any, Placement], PeftConfig]] = {
    LoraSettings: _lora,
    LoraXsSettings: _lora_xs,
    DeloraSettings: _delora,
    PeftSettings: _any_of_peft,
}
"""What makes the config of PEFT out of the settings of an adapter."""
