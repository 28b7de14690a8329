"""Entering our adapter types in PEFT's tables, so that PEFT treats them as its own.

PEFT's own ``register_peft_method`` accepts the members of its closed ``PeftType`` alone, but its
tables are looked up by string, so another enum of strings serves as well. Names equal values in
upper case, and the prefix of a type's parameters is its value in lower case with an underscore: the
loaders of Transformers and PEFT recognise an adapter's parameters by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor


class RankwisePeftType(str, Enum):  # noqa: UP042 (PEFT cuts "RankwisePeftType." off the name)
    """The adapter types that Rankwise adds to PEFT."""

    RANKWISE_XS = "RANKWISE_XS"
    RANKWISE_DECOUPLED = "RANKWISE_DECOUPLED"
    RANKWISE_CHAIN = "RANKWISE_CHAIN"


_PREFIXES = tuple(f"{each.value.lower()}_" for each in RankwisePeftType)


def register(peft_type: Enum, config_class: type[PeftConfig], tuner_class: type[BaseTuner]) -> None:
    """Enter one type in PEFT's tables; from then on ``get_peft_model`` and the loaders know it."""
    PEFT_TYPE_TO_CONFIG_MAPPING[peft_type] = config_class  # type: ignore[index]
    PEFT_TYPE_TO_TUNER_MAPPING[peft_type] = tuner_class  # type: ignore[index]
    PEFT_TYPE_TO_PREFIX_MAPPING[peft_type] = tuner_class.prefix  # type: ignore[index]


def current_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of an adapter under today's names, with or without the adapter's own in them.

    0.1 called the parts of its adapters ``layer.rankwise_xs_R``; today ``.weight`` follows.
    """
    return {f"{key}.weight" if _is_old(key) else key: value for key, value in tensors.items()}


def _is_old(key: str) -> bool:
    *_, second, last = ("", *key.split("."))
    return last.startswith(_PREFIXES) or (second.startswith(_PREFIXES) and last != "weight")
