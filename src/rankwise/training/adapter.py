"""From a method's settings to an adapter on a base model."""

from __future__ import annotations

import warnings
from typing import Any

import peft
import torch
from peft import LoraConfig, PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import nn

from rankwise.core.errors import ModelError, SettingsError, nearest_names
from rankwise.core.seeds import derive_seed
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.tasks.table import Task
from rankwise.training.build import settings_errors
from rankwise.training.settings.method import (
    DeloraSettings,
    LoraSettings,
    LoraXsSettings,
    MethodSettings,
    PeftSettings,
)


def attach_adapter(base: nn.Module, method: MethodSettings, *, task: Task, seed: int) -> nn.Module:
    """Put the method's adapter on ``base``; the seed decides its random start.

    With ``adapter.kind`` full, the base itself is returned: every weight trains.

    Raises:
        SettingsError: A rank, a target or an option does not fit the model.
    """
    adapter = method.adapter
    if adapter.kind == "full":
        return base
    targets = task.target_modules
    common = {
        "r": method.r,
        "target_modules": adapter.target_modules
        or (targets if isinstance(targets, str) else list(targets)),
        # Besides training in full, PEFT keeps adapters out of these.
        "modules_to_save": _heads(base, task),
    }
    config = _config(method, common, seed=seed)
    with settings_errors("method"), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # PEFT only warns of a rank_pattern that fits no layer, and goes on without it.
        warnings.filterwarnings("error", message="The following .* keys did not match")
        torch.manual_seed(derive_seed(seed, "adapter"))
        try:
            return peft.get_peft_model(base, config)
        except RuntimeWarning as warning:
            raise SettingsError(f"method.adapter: {warning}") from None


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


def _config(method: MethodSettings, common: dict[str, Any], *, seed: int) -> PeftConfig:
    adapter, r = method.adapter, method.r
    match adapter:
        case PeftSettings():
            return _foreign_config(adapter, common)
        case LoraSettings() | LoraXsSettings():
            common |= {"rank_pattern": adapter.rank_pattern, "lora_dropout": adapter.dropout}
        case DeloraSettings():
            return DeloraConfig(
                **common,
                rank_pattern=adapter.rank_pattern,
                delora_lambda=adapter.delora_lambda,
                learn_lambda=adapter.learn_lambda,
                module_dropout=adapter.dropout,
            )
        case _:
            raise AssertionError(adapter)
    if isinstance(adapter, LoraXsSettings):
        return LoraXSConfig(**common, lora_alpha=adapter.alpha, seed=derive_seed(seed, "adapter"))
    scaling = (adapter.alpha or r) / r
    # A pattern of ranks keeps the scaling: alpha follows the rank of each layer.
    alphas = {name: scaling * layer_r for name, layer_r in adapter.rank_pattern.items()}
    return LoraConfig(**common, lora_alpha=scaling * r, alpha_pattern=alphas)  # type: ignore[arg-type]


def _foreign_config(adapter: PeftSettings, common: dict[str, Any]) -> PeftConfig:
    known = {
        str(getattr(kind, "value", kind)): cls for kind, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items()
    }
    if adapter.peft_type not in known:
        raise SettingsError(
            f"method.adapter.peft_type: PEFT has no type {adapter.peft_type!r}; "
            f"{nearest_names(adapter.peft_type, known)}"
        )
    kind = known[adapter.peft_type]
    fitting = {name: value for name, value in common.items() if name in kind.__dataclass_fields__}
    try:
        return kind(**fitting | adapter.options)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"method.adapter.options: {error}") from None
