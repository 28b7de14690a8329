"""The plan of a federation: one method's run in it, and among whom."""

from __future__ import annotations

import hashlib

from pydantic import model_validator

from rankwise.training.settings.base import Settings, later_defaults
from rankwise.training.settings.federated import FederatedSettings
from rankwise.training.settings.run import RunSettings


class Plan(Settings):
    """All that server and clients must agree on: one method in a federation."""

    run: RunSettings
    federated: FederatedSettings

    @model_validator(mode="after")
    def _check_ranks(self) -> Plan:
        if getattr(self.run.method.adapter, "rank_budget", None) is not None:
            raise ValueError(
                "run: method.adapter.rank_budget places ranks by a gradient over all rows, which "
                "nobody in a federation has: set method.adapter.rank_pattern instead"
            )
        return self

    @property
    def digest(self) -> str:
        """The same for server and clients whose results would be the same."""
        # How long is waited, and what ends the run, change nothing about the result.
        waiting = ("timeout_seconds", "join_seconds", "rounds", "min_clients")
        left_out = later_defaults(self.federated) | dict.fromkeys(waiting, True)
        federated = self.federated.model_dump_json(exclude=left_out)
        return hashlib.sha256(f"{self.run.name} {federated}".encode()).hexdigest()[:16]
