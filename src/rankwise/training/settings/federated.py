"""The settings of a federation: among how many clients, how the rows are split, and how long."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rankwise.training.settings.base import Settings


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

    @model_validator(mode="after")
    def _check_that_all_have_a_meaning(self) -> FederatedSettings:
        if self.local_steps is not None and self.local_epochs != 1:
            raise ValueError(
                "a round is counted in epochs or in steps, got local_epochs "
                f"{self.local_epochs} and local_steps {self.local_steps}: leave one out"
            )
        if self.split != "dirichlet" and self.alpha != 0.5:
            raise ValueError(
                f"alpha {self.alpha:g} needs split 'dirichlet', got split {self.split!r}"
            )
        return self
