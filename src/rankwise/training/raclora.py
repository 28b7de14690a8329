"""The old place of RAC-LoRA's configuration, which is ``rankwise.training.settings.raclora``."""

from __future__ import annotations

import warnings

from rankwise.training.settings.raclora import settings_of_raclora

__all__ = ["settings_of_raclora"]

warnings.warn(
    "rankwise.training.raclora has moved to rankwise.training.settings.raclora",
    DeprecationWarning,
    stacklevel=2,
)
