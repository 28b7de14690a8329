"""The cases with which PEFT's own tests run: our configs in the place of PEFT's.

A pytest plugin too: it leaves out the tests without our configs, and expects those to fail that are
listed in ``deliberate.toml`` because we differ from PEFT on purpose.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import rankwise  # makes our types known to PEFT


def _stand_in_for_diffusers() -> None:
    """Let PEFT's shared tests be imported, which name a pipeline that ours do not use."""
    if importlib.util.find_spec("diffusers") is None:
        module: Any = ModuleType("diffusers")
        module.StableDiffusionPipeline = type("StableDiffusionPipeline", (), {})
        sys.modules["diffusers"] = module


_stand_in_for_diffusers()

OURS = {"LoRA-XS": rankwise.LoraXSConfig, "DeLoRA": rankwise.DeloraConfig}
_DROPOUT = {"LoRA-XS": "lora_dropout", "DeLoRA": "module_dropout"}
_MODELS: list[tuple[str, str, dict[str, Any]]] = [
    ("MLP 1", "MLP", {"target_modules": "lin0"}),
    ("MLP 2", "MLP", {"target_modules": ["lin0"]}),
    ("MLP 3", "MLP", {"target_modules": ["lin1"]}),
    ("MLP 4", "MLP", {"target_modules": ["lin0", "lin1"]}),
    ("MLP 5", "MLP", {"target_modules": ["lin0"], "modules_to_save": ["lin1"]}),
    ("MLP 6", "MLP", {"target_modules": ["lin0"], "DROPOUT": 0.1}),
    ("Embedding + Conv1D 1", "EmbConv1D", {"target_modules": ["conv1d"], "r": 1}),
]


def _options(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    renamed = {_DROPOUT[kind] if key == "DROPOUT" else key: v for key, v in options.items()}
    return {"r": 2, **renamed}


TEST_CASES = [
    (f"{kind} {name}", model, config, _options(kind, options))
    for kind, config in OURS.items()
    for name, model, options in _MODELS
]

MULTIPLE_ACTIVE_ADAPTERS_TEST_CASES = [
    (
        f"{kind} {name}",
        kind,
        config,
        {"r": 2, "target_modules": first, "init_weights": False},
        {"r": 2, "target_modules": second, "init_weights": False},
    )
    for kind, config in OURS.items()
    for name, first, second in (("same", ["lin0"], ["lin0"]), ("different", ["lin0"], ["lin1"]))
]

_DELIBERATE: dict[str, str] = tomllib.loads(
    Path(__file__).with_name("deliberate.toml").read_text(encoding="utf-8")
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not ours, and mark what differs on purpose."""
    ours = [item for item in items if _config_of(item) in OURS.values()]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(ours)])
    items[:] = ours
    for item in items:
        for pattern, reason in _DELIBERATE.items():
            if re.search(pattern, item.name):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def _config_of(item: pytest.Item) -> Any:
    return item.callspec.params.get("config_cls") if hasattr(item, "callspec") else None
