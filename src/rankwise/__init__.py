"""Rankwise: low-rank fine-tuning that keeps up with full fine-tuning, as an extension of PEFT.

Importing it makes our adapter types known to PEFT. The rest is imported when first used, so that
``import rankwise`` costs little beside ``import peft``.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rankwise import functional
from rankwise.core.errors import RankwiseError
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.chain import config as chain_config  # noqa: F401 (registers its type)

if TYPE_CHECKING:
    from rankwise.export.lora import export_lora
    from rankwise.methods.adapters.fused import fuse, unfuse
    from rankwise.methods.chain.callback import ChainCallback
    from rankwise.methods.chain.chain import Chain
    from rankwise.methods.inits.boundary import BoundaryMatching
    from rankwise.methods.inits.initialize import initialize
    from rankwise.methods.inits.update import UpdateApproximation
    from rankwise.methods.optimizer import parameter_groups

__version__ = version("rankwise")
__all__ = [
    "BoundaryMatching",
    "Chain",
    "ChainCallback",
    "DeloraConfig",
    "LoraXSConfig",
    "RankwiseError",
    "UpdateApproximation",
    "__version__",
    "export_lora",
    "functional",
    "fuse",
    "initialize",
    "parameter_groups",
    "unfuse",
]

_HOMES = {
    "BoundaryMatching": "rankwise.methods.inits.boundary",
    "Chain": "rankwise.methods.chain.chain",
    "ChainCallback": "rankwise.methods.chain.callback",
    "UpdateApproximation": "rankwise.methods.inits.update",
    "export_lora": "rankwise.export.lora",
    "fuse": "rankwise.methods.adapters.fused",
    "initialize": "rankwise.methods.inits.initialize",
    "parameter_groups": "rankwise.methods.optimizer",
    "unfuse": "rankwise.methods.adapters.fused",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rankwise' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
