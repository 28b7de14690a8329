"""What an initialization did: the part that each init knows, and the report that a user gets."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MonitoredLayer:
    """A layer whose boundaries were matched, and its agreement with the reference in sign.

    ``match_before`` and ``match_after`` are shares from 0 to 1 on the first batch.
    """

    name: str
    weight: float
    match_before: float
    match_after: float


@dataclass(frozen=True)
class Outcome:
    """What an init says of its run; the empty defaults are those of an init that takes no steps.

    ``unused`` names the layers that took no part in the loss and keep their own start.
    """

    samples: int
    reference: str | None = None
    losses: tuple[float, ...] = ()
    steps: int = 0
    monitored: tuple[MonitoredLayer, ...] = ()
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerStart:
    """Where a layer's adapter begins.

    ``relative_strength`` is ‖ΔW₀‖ / ‖W‖. The captured shares say how much of the squared gradient
    of the first batch the adapter can follow, before and after; None unless they were measured.
    """

    name: str
    rank: int
    relative_strength: float
    captured_before: float | None = None
    captured_after: float | None = None


@dataclass(frozen=True)
class InitializationReport:
    """What :func:`rankwise.initialize` did and what it cost.

    Attributes:
        init: Class of the init.
        adapter_name: The adapter that was written.
        seconds: Wall time, measuring included.
        outcome: Samples that were read; of a trained init also the reference's kind
            (``"pretrained"`` or ``"adapter"``), the loss before each step, the optimizer steps
            taken (0: every margin was satisfied already, nothing changed) and the monitored
            layers; of ``UpdateApproximation(skip_unused=True)`` the layers left as they were.
        layers: Where each layer begins.
    """

    init: str
    adapter_name: str
    seconds: float
    outcome: Outcome
    layers: tuple[LayerStart, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values; numbers that are not finite become None."""
        plain = dataclasses.asdict(self)
        return _json_safe({**plain.pop("outcome"), **plain})


def _json_safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_safe(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
