"""Whether an aggregate may be applied: one under which the loss explodes may not.

A client's numbers may be finite and of the right shape, and wrong all the same. The server cannot
tell a wrong update from an unusual one, but it sees what becomes of the validation loss, and it
looks before it applies anything. Where the loss explodes, each update is tried alone, and those
under which it explodes too are left out and named, with the norm of what they would have changed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from rankwise.core.errors import TrainingError
from rankwise.federated.aggregation import aggregate, norms_of
from rankwise.federated.exchange import Tensors

# The page of federations, which tells whose norm stands out, is made without Flower.
if TYPE_CHECKING:
    from rankwise.federated.local import Participant
    from rankwise.federated.messages import Update

logger = logging.getLogger(__name__)

WORST_RATIO = 1000
"""A loss explodes that is beyond so many times the one before (or 1, where that was less)."""

STANDS_OUT = 10
"""A norm beyond so many times the median of the others' is told of."""


@dataclass(frozen=True)
class Accepted:
    """What a round is to apply.

    Attributes:
        tensors: The aggregate.
        updates: Those that it is of.
        left_out: Why others are not in it, by client.
        norms: Of all updates, by client: how far each moved what trains.
    """

    tensors: Tensors
    updates: Sequence[Update]
    left_out: dict[int, str]
    norms: dict[int, float]


def accept(
    server: Participant, updates: Sequence[Update], *, round_number: int, loss_before: float
) -> Accepted:
    """Aggregate the updates of a round, without those under which the loss explodes.

    Args:
        server: In the state that the round began with; it is left as it is.
        updates: What the clients sent.
        round_number: For messages.
        loss_before: On validation, when the round began.

    Raises:
        TrainingError: Fewer than ``min_clients`` can be used, or the loss explodes though under
            each update alone it does not.
    """
    federated, present = server.plan.federated, server.strategy.trained()
    values = norms_of([update.tensors for update in updates], present)
    norms = {update.client: norm for update, norm in zip(updates, values, strict=True)}
    left_out: dict[int, str] = {}
    while True:
        usable = [update for update in updates if update.client not in left_out]
        check_enough(len(usable), needed=federated.min_clients, round_number=round_number)
        examples = [update.examples for update in usable]
        tensors = aggregate([each.tensors for each in usable], examples, present, federated)
        loss = server.loss_with(tensors)
        if is_sound(loss, loss_before):
            return Accepted(tensors, usable, left_out, norms)
        alone = {update.client: server.loss_with(update.tensors) for update in usable}
        wrong = {client: each for client, each in alone.items() if not is_sound(each, loss_before)}
        if not wrong:
            raise TrainingError(
                f"round {round_number}: the validation loss would go from {loss_before:.4g} to "
                f"{loss:.4g}, though under no update alone it would (norms by client: "
                f"{_listed(norms)}): begin a new federation with a lower learning rate, or with "
                "federated.aggregation median, trimmed-mean or norm-clipping"
            )
        for client, each in wrong.items():
            left_out[client] = (
                f"under its update alone the validation loss would go from {loss_before:.4g} to "
                f"{each:.4g}; {_said_of(norms, client)}"
            )
            logger.warning(
                "round %d: client %d is left out: %s", round_number, client, left_out[client]
            )


def is_sound(loss: float, before: float) -> bool:
    """Say whether a loss is finite and has not exploded from what it was before."""
    return math.isfinite(loss) and loss <= WORST_RATIO * max(before, 1.0)


def check_enough(present: int, *, needed: int, round_number: int) -> None:
    """Stop a run in which too few clients are left.

    Raises:
        TrainingError: There are fewer than ``needed``.
    """
    if present < needed:
        raise TrainingError(
            f"round {round_number}: {present} clients gave an update that can be used, at least "
            f"{needed} are needed (federated.min_clients): bring clients back, and go on with "
            "--resume"
        )


def standing_out(norms: Mapping[int, float]) -> dict[int, str]:
    """Say of each client whose norm is far beyond the others' how far."""
    return {
        client: _said_of(norms, client)
        for client, norm in norms.items()
        if (others := _median_of_others(norms, client)) is not None and norm > STANDS_OUT * others
    }


def _said_of(norms: Mapping[int, float], client: int) -> str:
    norm, others = norms[client], _median_of_others(norms, client)
    told = f"its update has a norm of {norm:.3g}"
    if others is None:
        return told
    return f"{told}, and the median of the others' is {others:.3g}"


def _median_of_others(norms: Mapping[int, float], client: int) -> float | None:
    others = [norm for other, norm in norms.items() if other != client]
    return median(others) if others else None


def _listed(norms: Mapping[int, float]) -> str:
    return ", ".join(f"{client}: {norm:.3g}" for client, norm in norms.items())
