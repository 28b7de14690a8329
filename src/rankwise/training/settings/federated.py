"""The settings of a federation: among how many clients, how the rows are split, and how long."""

from __future__ import annotations

import math
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
    join_seconds: PositiveFloat = setting(
        600.0, "how long the first round waits for clients to join", unit="seconds"
    )
    aggregation: Literal["mean", "median", "trimmed-mean", "norm-clipping"] = setting(
        "mean", "what the server makes of the updates of a round", is_later=True
    )
    trim: Annotated[float, Field(gt=0, lt=0.5)] = setting(
        0.2,
        "share of the updates that trimmed-mean drops at each end",
        unit="ratio",
        is_later=True,
    )
    clipping_norm: PositiveFloat | None = setting(
        None,
        "the norm to which norm-clipping scales an update down; null: the round's median norm",
        unit="norm",
        is_later=True,
    )

    @property
    def sampled(self) -> int:
        """The number of clients that a round samples."""
        return max(1, round(self.fraction * self.clients))

    def trimmed_of(self, updates: int) -> int:
        """Return how many of ``updates`` the trimmed mean drops at each end: one at least."""
        # What is a whole number but for rounding counts as one.
        share = math.floor(self.trim * updates + 1e-9)
        return min(max(1, share), (updates - 1) // 2)

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

    @model_validator(mode="after")
    def _check_aggregation(self) -> FederatedSettings:
        """Refuse options of another aggregate, and one that so few updates make the plain mean."""
        if self.aggregation != "trimmed-mean" and self.trim != 0.2:
            raise ValueError(
                f"trim {self.trim:g} needs aggregation 'trimmed-mean', got {self.aggregation!r}"
            )
        if self.aggregation != "norm-clipping" and self.clipping_norm is not None:
            raise ValueError(
                f"clipping_norm {self.clipping_norm:g} needs aggregation 'norm-clipping', got "
                f"{self.aggregation!r}"
            )
        has_own_limit = self.clipping_norm is not None
        if self.aggregation != "mean" and not has_own_limit and self.min_clients < 3:
            raise ValueError(
                f"aggregation {self.aggregation!r} of fewer than 3 updates guards against nothing, "
                f"got min_clients {self.min_clients}: set min_clients to 3 or more"
            )
        return self
