"""Entering our adapter types in PEFT's tables, so that PEFT treats them as its own.

PEFT's own ``register_peft_method`` accepts the members of its closed ``PeftType`` alone, but its
tables are looked up by string, so another enum of strings serves as well. Names equal values in
upper case, and the prefix of a type's parameters is its value in lower case with an underscore: the
loaders of Transformers and PEFT recognise an adapter's parameters by it.
"""

from __future__ import annotations

from enum import StrEnum

from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner


class RankwisePeftType(StrEnum):
    """The adapter types that Rankwise adds to PEFT."""

    RANKWISE_XS = "RANKWISE_XS"
    RANKWISE_DECOUPLED = "RANKWISE_DECOUPLED"
    RANKWISE_CHAIN = "RANKWISE_CHAIN"


def register(
    peft_type: RankwisePeftType, config_class: type[PeftConfig], tuner_class: type[BaseTuner]
) -> None:
    """Enter one type in PEFT's tables; from then on ``get_peft_model`` and the loaders know it."""
    PEFT_TYPE_TO_CONFIG_MAPPING[peft_type] = config_class  # type: ignore[index]
    PEFT_TYPE_TO_TUNER_MAPPING[peft_type] = tuner_class  # type: ignore[index]
    PEFT_TYPE_TO_PREFIX_MAPPING[peft_type] = tuner_class.prefix  # type: ignore[index]
