"""What is recorded of a federation, and reading the record of whatever came to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, TypeAdapter

from rankwise.core.records import Record, read_as
from rankwise.training.records import FailedRun, RunRecord
from rankwise.training.settings.federation_plan import Plan
from rankwise.training.settings.run import RunSettings

FEDERATIONS = "federated.json"
"""The file of :class:`Federations` in the folder of a recipe's federations."""


class Round(Record):
    """What happened in a round of a federation; number 0 is what the clients start from.

    Attributes:
        clients: The numbers of those whose updates were averaged.
        left_out: Why others that were sampled were not, by number.
        norms: Of the updates that came, by number: ‖what trains after the round − before it‖.
        distance: Of the mean of the clients' updates from what the server applied, relative; None
            where the mean is 0 and what was applied is not.
    """

    number: int
    score: float
    loss: float
    seconds: float
    clients: tuple[int, ...] = ()
    left_out: dict[int, str] = Field(default_factory=dict)
    norms: dict[int, float] = Field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    distance: float | None = 0.0


class FederationRecord(Record):
    """A federation that came to its end.

    Attributes:
        digest: Of the plan, without what changes nothing about the result.
        method: The method's title; ``metric`` is the one in which the scores are.
        examples: Of each client, by number, as it named them when it first joined.
        trained_numbers: What a client sends up in a round.
        score_validation: After the last round.
        versions: Of what the server ran with; empty in what version 0.1 wrote, as is ``commit``.
    """

    plan: Plan
    digest: str
    rounds: tuple[Round, ...] = Field(min_length=1)
    examples: dict[int, int] = Field(default_factory=dict)
    method: str
    metric: str
    trained_numbers: int
    score_validation: float
    score_test: float
    versions: dict[str, str] = Field(default_factory=dict)
    commit: str | None = None

    def run_settings(self) -> RunSettings:
        """Return the settings of the run that each client took part in."""
        return self.plan.run


class Federations(Record):
    """The federations of one recipe, in its order."""

    federations: tuple[FederationRecord, ...] = Field(min_length=1)


def _kind(record: Any) -> str:
    """Say what a record is: ``done``, ``failed``, ``federation``, or nothing known."""
    if not isinstance(record, dict):
        return ""
    return "federation" if "plan" in record else str(record.get("status"))


_FINISHED: TypeAdapter[RunRecord | FailedRun | FederationRecord] = TypeAdapter(
    Annotated[
        Annotated[RunRecord, Tag("done")]
        | Annotated[FailedRun, Tag("failed")]
        | Annotated[FederationRecord, Tag("federation")],
        Discriminator(_kind),
    ]
)


def read_any(path: Path) -> RunRecord | FailedRun | FederationRecord:
    """Read the record of a run or of a federation.

    Raises:
        AdapterError: It is missing, damaged, or written by a newer version.
    """
    return read_as(_FINISHED, path)
