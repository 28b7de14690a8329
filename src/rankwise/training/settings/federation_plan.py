"""The plan of a federation: one method's run in it, and among whom."""

from __future__ import annotations

import hashlib

from rankwise.training.settings.base import Settings
from rankwise.training.settings.federated import FederatedSettings
from rankwise.training.settings.run import RunSettings

_ADDED = ("aggregation", "trim", "clipping_norm")


class Plan(Settings):
    """All that server and clients must agree on: one method in a federation."""

    run: RunSettings
    federated: FederatedSettings

    @property
    def digest(self) -> str:
        """The same for server and clients whose results would be the same."""
        # How long is waited, and what ends the run, change nothing about the result.
        elsewhere = {"timeout_seconds", "join_seconds", "rounds", "min_clients"}
        # Federations had their digests before there was a choice of the aggregate.
        defaults = FederatedSettings()
        elsewhere |= {
            name for name in _ADDED if getattr(self.federated, name) == getattr(defaults, name)
        }
        federated = self.federated.model_dump_json(exclude=elsewhere)
        return hashlib.sha256(f"{self.run.name} {federated}".encode()).hexdigest()[:16]
