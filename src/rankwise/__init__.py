"""Rankwise: low-rank fine-tuning that keeps up with full fine-tuning, as an extension of PEFT.

``import rankwise`` is cheap: each public name is imported when it is first used, and PEFT learns
our adapter types when PEFT itself is imported, before or after Rankwise
(``core/import_hook.py``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rankwise.core.import_hook import run_after_import
from rankwise.core.library_noise import quiet_imports

if TYPE_CHECKING:
    from rankwise import functional
    from rankwise.core.errors import RankwiseError
    from rankwise.export.lora import export_lora
    from rankwise.methods.adapters.delora import DeloraConfig
    from rankwise.methods.adapters.fused import fuse, unfuse
    from rankwise.methods.adapters.lora_xs import LoraXSConfig
    from rankwise.methods.chain.callback import ChainCallback
    from rankwise.methods.chain.chain import Chain
    from rankwise.methods.chain.fold_steps import FoldBelow
    from rankwise.methods.factor_optimizers import muon
    from rankwise.methods.inits.boundary import BoundaryMatching
    from rankwise.methods.inits.initialize import initialize
    from rankwise.methods.inits.update import UpdateApproximation
    from rankwise.methods.optimizer import parameter_groups
    from rankwise.methods.placement import place_ranks
    from rankwise.training.probes.doctor import examine

    __version__: str

__all__ = [
    "BoundaryMatching",
    "Chain",
    "ChainCallback",
    "DeloraConfig",
    "FoldBelow",
    "LoraXSConfig",
    "RankwiseError",
    "UpdateApproximation",
    "__version__",
    "examine",
    "export_lora",
    "functional",
    "fuse",
    "initialize",
    "muon",
    "parameter_groups",
    "place_ranks",
    "unfuse",
]

# Where each name is defined; type checkers read the imports above instead.
_HOMES = {
    "BoundaryMatching": "rankwise.methods.inits.boundary",
    "Chain": "rankwise.methods.chain.chain",
    "ChainCallback": "rankwise.methods.chain.callback",
    "DeloraConfig": "rankwise.methods.adapters.delora",
    "FoldBelow": "rankwise.methods.chain.fold_steps",
    "LoraXSConfig": "rankwise.methods.adapters.lora_xs",
    "RankwiseError": "rankwise.core.errors",
    "UpdateApproximation": "rankwise.methods.inits.update",
    "examine": "rankwise.training.probes.doctor",
    "export_lora": "rankwise.export.lora",
    "fuse": "rankwise.methods.adapters.fused",
    "initialize": "rankwise.methods.inits.initialize",
    "muon": "rankwise.methods.factor_optimizers",
    "parameter_groups": "rankwise.methods.optimizer",
    "place_ranks": "rankwise.methods.placement",
    "unfuse": "rankwise.methods.adapters.fused",
}
# Each enters its type in PEFT's tables when it is imported.
_ADAPTER_TYPES = (
    "rankwise.methods.adapters.lora_xs",
    "rankwise.methods.adapters.delora",
    "rankwise.methods.chain.config",
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata  # costs more than all else that is imported here

        try:
            return metadata.version("rankwise")
        except metadata.PackageNotFoundError:  # a source tree on the path
            return "0+uninstalled"
    if name == "functional":
        return importlib.import_module("rankwise.functional")
    if name not in _HOMES:
        raise AttributeError(f"module 'rankwise' has no attribute {name!r}")
    with quiet_imports():
        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)


def _register_adapter_types() -> None:
    for module in _ADAPTER_TYPES:
        importlib.import_module(module)


run_after_import("peft", _register_adapter_types)
