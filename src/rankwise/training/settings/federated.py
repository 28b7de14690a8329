"""The settings of a federation: among how many clients, how the rows are split, and how long."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rankwise.training.settings.base import Settings, setting


class FederatedSettings(Settings):
    """Who takes part, and how long."""

    clients: PositiveInt = setting(5, "among which the training rows are split", unit="clients")
    rounds: PositiveInt = setting(20, "times that the server averages", unit="rounds")
    fraction: Annotated[float, Field(gt=0, le=1)] = setting(
        1.0, "share of the clients that each round samples", unit="ratio"
    )
    min_clients: PositiveInt = setting(
        2, "usable updates without which the federation stops", unit="clients"
    )
    split: Literal["even", "dirichlet", "own"] = setting(
        "dirichlet",
        "even shares, labels drawn by Dirichlet's law, or all rows of each client's own machine",
    )
    alpha: PositiveFloat = setting(
        0.5, "concentration of Dirichlet's law: the smaller, the more labels differ", unit="number"
    )
    local_epochs: PositiveInt = setting(1, "epochs of a client in a round", unit="epochs")
    local_steps: PositiveInt | None = setting(
        None, "steps of a client in a round, instead of whole epochs", unit="steps"
    )
    timeout_seconds: PositiveFloat = setting(
        600.0, "how long a round waits for its clients", unit="seconds"
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
