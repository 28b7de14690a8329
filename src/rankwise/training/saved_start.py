"""A start out of an adapter directory, such as `rankwise init` writes, instead of a fresh one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.methods.adapters.directory import check_adapter_directory, read_config

# What decides how the tensors act. A directory that differs there would start another adapter.
_DECISIVE = ("peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "delora_lambda")


def load_start(model: nn.Module, path: Path) -> dict[str, Any]:
    """Give the adapter of ``model`` the tensors in ``path``; return what a record says of it.

    Raises:
        AdapterError: There is no adapter in ``path``, or it is damaged.
        SettingsError: It is not the adapter that the run's settings describe; every setting that
            differs is named. The model was not changed.
    """
    assert isinstance(model, PeftModel)  # settings refuse an init without an adapter
    if not (path / "adapter_config.json").is_file():
        raise AdapterError(
            f"method.init.path: no adapter in {path}: write one with `rankwise init`"
        )
    tensors = check_adapter_directory(path)
    written, own = read_config(path), model.peft_config["default"].to_dict()
    differing = [
        f"{key} is {written.get(key)!r} there and {_plain(own.get(key))!r} here"
        for key in _DECISIVE
        if written.get(key) != _plain(own.get(key))
    ]
    expected = {key: each.shape for key, each in get_peft_model_state_dict(model).items()}
    found = {key: each.shape for key, each in tensors.items()}
    odd = sorted(key for key in expected | found if expected.get(key) != found.get(key))
    if odd:
        differing.append(f"{len(odd)} tensors, the first {odd[0]}")
    if differing:
        raise SettingsError(
            f"method.init.path: {path} holds another adapter than this run's: "
            + "; ".join(differing)
        )
    set_peft_model_state_dict(model, tensors)
    return {"path": str(path)}


def _plain(value: Any) -> Any:
    """Return an option as JSON has it."""
    return getattr(value, "value", value)
