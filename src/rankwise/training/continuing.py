"""A run that goes on from a saved adapter: the method that the adapter's own config describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.methods.adapters.directory import CONFIG, read_config
from rankwise.methods.adapters.peft_types import RankwisePeftType
from rankwise.methods.chain.ledger import FILE_NAME

Tree = dict[str, Any]
_ALPHA, _LAMBDA = "lora_alpha", "delora_lambda"
# The name of a method, its kind of adapter, and what its config calls the strength of the change.
_KINDS = {
    "LORA": ("lora", "lora", {"alpha": _ALPHA}),
    RankwisePeftType.RANKWISE_XS.value: ("lora-xs", "lora_xs", {"alpha": _ALPHA}),
    RankwisePeftType.RANKWISE_DECOUPLED.value: ("delora", "delora", {"delora_lambda": _LAMBDA}),
}
# What changes a LoRA's forward pass, and Rankwise has no setting for.
_FOREIGN = ("use_dora", "use_rslora", "fan_in_fan_out", "layers_to_transform", "lora_bias")


def continued_method(path: Path) -> Tree:
    """Return the settings of a method whose adapter begins as the one saved at ``path``.

    Args:
        path: An adapter directory, or the folder of a run that has one.

    Raises:
        AdapterError: There is no adapter, or its config cannot be read.
        SettingsError: It is of a kind that a run cannot begin with.
    """
    folder = path / "adapter" if (path / "adapter" / CONFIG).is_file() else path
    config = read_config(folder)
    if (folder / FILE_NAME).is_file():
        raise SettingsError(
            f"--from {path}: it holds a chain of adapters, of which only the last would go on: "
            f"make one LoRA of it by rankwise export {path} --output ADAPTER, and name that"
        )
    kind = config["peft_type"]
    if kind not in _KINDS:
        raise SettingsError(
            f"--from {path}: no run goes on from an adapter of type {kind}; from "
            f"{', '.join(_KINDS)} it does"
        )
    if foreign := [name for name in _FOREIGN if config.get(name)]:
        raise SettingsError(
            f"--from {path}: its config has {', '.join(foreign)}, for which there is no setting"
        )
    if not isinstance(config.get("r"), int) or not config.get("target_modules"):
        raise AdapterError(f"{folder / CONFIG} names no r or no target_modules: fetch it again")
    name, adapter, strength = _KINDS[kind]
    options = {ours: config[theirs] for ours, theirs in strength.items() if theirs in config}
    targets = config["target_modules"]
    return {
        "name": name,
        "r": config["r"],
        "adapter": {
            "kind": adapter,
            "target_modules": sorted(targets) if isinstance(targets, list) else targets,
            "rank_pattern": config.get("rank_pattern") or {},
            **options,
        },
        "init": {"kind": "saved", "path": str(folder.absolute())},
        "schedule": {"kind": "single"},
    }
