"""The settings of a federation, beside those of the run that each client performs."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from rankwise.core.errors import SettingsError, nearest_names
from rankwise.training.settings import RunSettings
from rankwise.training.strict import Settings


class FederatedSettings(Settings):
    """Who takes part, and how long."""

    clients: PositiveInt = 5
    rounds: PositiveInt = 20
    fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="share of the clients that each round samples"
    )
    min_clients: PositiveInt = Field(
        default=2, description="usable updates without which the run stops"
    )
    split: Literal["even", "dirichlet", "own"] = Field(
        default="dirichlet", description="own: each machine has rows of its own, and takes them all"
    )
    alpha: PositiveFloat = Field(default=0.5, description="concentration of the Dirichlet law")
    local_epochs: PositiveInt = Field(default=1, description="epochs of a client in a round")
    local_steps: PositiveInt | None = Field(
        default=None, description="steps of a client in a round, instead of whole epochs"
    )
    timeout_seconds: PositiveFloat = Field(
        default=600.0, description="how long a round waits for its clients"
    )

    @property
    def sampled(self) -> int:
        """The number of clients that a round samples."""
        return max(1, round(self.fraction * self.clients))

    @model_validator(mode="after")
    def _check_min_clients(self) -> FederatedSettings:
        if self.min_clients > self.sampled:
            raise ValueError(
                f"min_clients must be at most the clients that a round samples, {self.sampled}, "
                f"got {self.min_clients}"
            )
        return self


class Plan(Settings):
    """All that server and clients must agree on: one method in a federation."""

    run: RunSettings
    federated: FederatedSettings

    @property
    def digest(self) -> str:
        """The same for server and clients whose results would be the same."""
        # Where data lie and how long a round waits may differ between machines.
        federated = self.federated.model_dump_json(exclude={"timeout_seconds", "rounds"})
        return hashlib.sha256(f"{self.run.name} {federated}".encode()).hexdigest()[:16]


def read_federated(tree: dict[str, Any]) -> FederatedSettings:
    """Read the settings of a federation strictly.

    Raises:
        SettingsError: An unknown key or a wrong value.
    """
    try:
        return FederatedSettings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError("\n".join(map(_line, error.errors()))) from None


def _line(error: Any) -> str:
    place = ".".join(["federated", *map(str, error["loc"])])
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = FederatedSettings.model_fields
        message = f"unknown setting; {nearest_names(str(error['loc'][-1]), known)}"
    elif error["type"] != "value_error":
        message = f"{message}, got {error['input']!r}"
    return f"{place}: {message}"
