"""The plan of a federation: one method's run in it, and among whom."""

from __future__ import annotations

import hashlib

from rankwise.training.settings.base import Settings
from rankwise.training.settings.federated import FederatedSettings
from rankwise.training.settings.run import RunSettings


class Plan(Settings):
    """All that server and clients must agree on: one method in a federation."""

    run: RunSettings
    federated: FederatedSettings

    @property
    def digest(self) -> str:
        """The same for server and clients whose results would be the same."""
        # Where data lie, how long a round waits and what stops it change nothing about its result.
        elsewhere = {"timeout_seconds", "rounds", "min_clients"}
        federated = self.federated.model_dump_json(exclude=elsewhere)
        return hashlib.sha256(f"{self.run.name} {federated}".encode()).hexdigest()[:16]
