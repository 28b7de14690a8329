"""From settings to a model that is ready to train: base, adapter, start, schedule.

Settings are unpacked here. What the floors below refuse as an argument is a user's setting, so
their ``ValueError`` leaves this file as a ``SettingsError`` that names the setting.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import peft
import torch
from peft import LoraConfig, PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import nn

from rankwise.core.errors import SettingsError, nearest_names
from rankwise.core.seeds import derive_seed
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.tasks.table import Task, task_class
from rankwise.training.settings import (
    DeloraSettings,
    LoraSettings,
    LoraXsSettings,
    MethodSettings,
    PeftSettings,
    TaskSettings,
)


def build_task(settings: TaskSettings) -> Task:
    """Return the task that the settings describe."""
    return task_class(settings.name)(
        seed=settings.seed,
        pretrain_epochs=settings.pretrain_epochs,
        pretrain_learning_rate=settings.pretrain_learning_rate,
    )


def attach_adapter(base: nn.Module, method: MethodSettings, *, task: Task, seed: int) -> nn.Module:
    """Put the method's adapter on ``base``; the seed decides its random start.

    With ``adapter.kind`` full, the base itself is returned: every weight trains.
    """
    if method.adapter.kind == "full":
        return base
    with settings_errors("method"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "adapter"))
        return peft.get_peft_model(base, _adapter_config(method, list(task.target_modules), seed))


@contextlib.contextmanager
def settings_errors(place: str) -> Iterator[None]:
    """Turn a refused argument into an error about the setting ``place``."""
    try:
        yield
    except ValueError as error:
        raise SettingsError(f"{place}: {error}") from error


def _adapter_config(method: MethodSettings, targets: list[str], seed: int) -> PeftConfig:
    adapter, r = method.adapter, method.r
    match adapter:
        case LoraSettings():
            return LoraConfig(
                r=r,
                lora_alpha=adapter.alpha or r,  # type: ignore[arg-type]
                # A pattern of ranks keeps the scaling: alpha follows the rank of each layer.
                alpha_pattern=_alpha_pattern(adapter, r),
                rank_pattern=dict(adapter.rank_pattern),
                lora_dropout=adapter.dropout,
                target_modules=targets,
            )
        case LoraXsSettings():
            return LoraXSConfig(
                r=r,
                lora_alpha=adapter.alpha,
                rank_pattern=dict(adapter.rank_pattern),
                lora_dropout=adapter.dropout,
                target_modules=targets,
                seed=derive_seed(seed, "adapter"),
            )
        case DeloraSettings():
            return DeloraConfig(
                r=r,
                delora_lambda=adapter.delora_lambda,
                learn_lambda=adapter.learn_lambda,
                rank_pattern=dict(adapter.rank_pattern),
                module_dropout=adapter.dropout,
                target_modules=targets,
            )
        case PeftSettings():
            return _foreign_config(adapter, r, targets)
        case _:
            raise AssertionError(adapter)


def _alpha_pattern(adapter: LoraSettings, r: int) -> dict[str, float]:
    scaling = (adapter.alpha or r) / r
    return {name: scaling * layer_r for name, layer_r in adapter.rank_pattern.items()}


def _foreign_config(adapter: PeftSettings, r: int, targets: list[str]) -> PeftConfig:
    known = {
        str(getattr(kind, "value", kind)): cls for kind, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items()
    }
    if adapter.peft_type not in known:
        raise SettingsError(
            f"method.adapter.peft_type: PEFT has no type {adapter.peft_type!r}; "
            f"{nearest_names(adapter.peft_type, known)}"
        )
    options = {"target_modules": targets, **adapter.options}
    kind = known[adapter.peft_type]
    if "r" in kind.__dataclass_fields__:
        options.setdefault("r", r)
    try:
        return kind(**options)
    except TypeError as error:  # an option that this config does not have
        raise SettingsError(f"method.adapter.options: {error}") from None


def state_bytes(folder: Path) -> int:
    """Return the bytes of the tensors stored in ``folder``."""
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
