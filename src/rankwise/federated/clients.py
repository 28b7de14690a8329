"""The server's side of its clients: who is there, what each knows, and what each answers.

A client that fails, answers too late or sends what cannot be averaged is left out of the round and
named in the log. Who joins is asked for its number and its examples once, and held to both.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.serverapp import Grid
from torch import Tensor

from rankwise.core.errors import TrainingError
from rankwise.federated.exchange import State, Tensors, count_bytes
from rankwise.federated.messages import (
    BEGIN,
    HELLO,
    TRAIN,
    Order,
    Refusal,
    Update,
    is_unavailable,
    read_update,
)
from rankwise.training.settings.federation_plan import Plan

logger = logging.getLogger(__name__)

SEED_BYTES = 8
"""What a round number or a seed takes in a message."""

_WAIT_SECONDS = 0.1


@dataclass
class Answers:
    """What came back in a round: updates that can be averaged, and why others cannot, by client."""

    updates: list[Update] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass
class _Node:
    """Flower's number of a client's node, and the stamp up to which it knows the state."""

    number: int
    known: int = 0


class Clients:
    """The clients of a plan, as Flower's grid reaches them.

    Attributes:
        examples: By client, the number of examples that it named when it first joined.
    """

    def __init__(self, grid: Grid, plan: Plan, *, examples: Mapping[int, int]) -> None:
        self._grid, self._plan = grid, plan
        self.examples = dict(examples)
        self._nodes: dict[int, _Node] = {}
        self._greeted: dict[str, int] = {}
        self._refused: set[int] = set()
        self._twins: dict[int, int] = {}

    def await_all(self) -> None:
        """Wait until all clients have joined, or for ``join_seconds``; too few are an error.

        Raises:
            TrainingError: Fewer than ``min_clients`` joined.
        """
        federated = self._plan.federated
        end = time.monotonic() + federated.join_seconds
        self.greet()
        while len(self._nodes) < federated.clients and time.monotonic() < end:
            time.sleep(_WAIT_SECONDS)
            self.greet()
        if len(self._nodes) < federated.min_clients:
            silent = len(set(self._greeted.values()))
            raise TrainingError(
                f"{len(self._nodes)} of {federated.clients} clients joined within "
                f"{federated.join_seconds:g} s (federated.join_seconds), {silent} more are there "
                f"and have not answered yet, and at least {federated.min_clients} are needed "
                "(federated.min_clients): start the others or wait longer, and go on with --resume"
            )

    def greet(self) -> None:
        """Forget nodes that are gone, ask new ones which clients they are, and hear who answers.

        Nobody is waited for: the first answer of a machine that has yet to load everything may come
        rounds later, and counts then.
        """
        present = set(self._grid.get_node_ids())
        self._nodes = {i: each for i, each in self._nodes.items() if each.number in present}
        self._greeted = {i: node for i, node in self._greeted.items() if node in present}
        self._twins = {i: node for i, node in self._twins.items() if node in present}
        known = {each.number for each in self._nodes.values()} | self._refused | self._twins.keys()
        new = present - known - set(self._greeted.values())
        order = self._order(0, since=0, tensors={})
        self._greeted |= self._push(order.message(node, HELLO) for node in sorted(new))
        for node, reply in sorted(self._pull(self._greeted).items()):
            self._admit(node, reply)

    def starts(self, like: Mapping[str, Tensor]) -> Iterator[tuple[int, Update | Refusal]]:
        """Ask one client after another to make the start from its rows; yield what each answers."""
        order = self._order(0, since=0, tensors={})
        for client, node in sorted(self._nodes.items()):
            replies = self._ask([order.message(node.number, BEGIN)])
            yield client, self._read(replies, node.number, round_number=0, like=like)

    def train(
        self, sampled: Sequence[int], number: int, state: State, like: Mapping[str, Tensor]
    ) -> Answers:
        """Send the sampled clients what is new to them, and return what they have trained."""
        answers, messages = Answers(), []
        present = [client for client in sampled if client in self._nodes]
        for client in present:
            node = self._nodes[client]
            tensors = state.newer_than(node.known)
            answers.bytes_down += count_bytes(tensors) + SEED_BYTES
            order = self._order(number, since=node.known, tensors=tensors)
            messages.append(order.message(node.number, TRAIN))
        replies = self._ask(messages)
        for client in sampled:
            update = self._update_of(client, replies, number, like)
            if isinstance(update, Update):
                answers.updates.append(update)
                answers.bytes_up += count_bytes(update.tensors)
            else:
                answers.left_out[client] = update.reason
                logger.warning("round %d: client %d is left out: %s", number, client, update.reason)
        return answers

    def _admit(self, node: int, reply: Message) -> None:
        """Take the answer to a greeting: one client more, or a node that takes no part."""
        self._greeted = {i: each for i, each in self._greeted.items() if each != node}
        if is_unavailable(reply):
            return  # once it is back it is greeted again
        update = read_update(reply, round_number=0, like={})
        reason = update.reason if isinstance(update, Refusal) else self._objection(update)
        if isinstance(update, Refusal) or reason is not None:
            self._refused.add(node)
            logger.warning("node %d takes no part: %s", node, reason)
        elif twin := self._nodes.get(update.client):
            self._twins[node] = twin.number
            logger.warning(
                "node %d takes no part while node %d is there: both call themselves client %d; "
                "give each SuperNode a partition-id of its own",
                *(node, twin.number, update.client),
            )
        else:
            self._nodes[update.client] = _Node(node)
            self.examples[update.client] = update.examples

    def _objection(self, update: Update) -> str | None:
        """Say why a node cannot be the client that it calls itself; None if it can."""
        clients = self._plan.federated.clients
        if not 0 <= update.client < clients:
            return f"it calls itself client {update.client}, and the clients are 0 to {clients - 1}"
        return self._miscount(update)

    def _miscount(self, update: Update) -> str | None:
        first = self.examples.get(update.client, update.examples)
        if update.examples == first:
            return None
        return f"it counts {update.examples} examples, and counted {first} when it first joined"

    def _update_of(
        self, client: int, replies: dict[int, Message], number: int, like: Mapping[str, Tensor]
    ) -> Update | Refusal:
        if client not in self._nodes:
            return Refusal("it is not there")
        node = self._nodes[client]
        update = self._read(replies, node.number, round_number=number, like=like)
        if isinstance(update, Update):
            if update.client != client:
                update = Refusal(f"it calls itself client {update.client}")
            elif fault := self._miscount(update):
                update = Refusal(fault)
        # What a client that failed knows is not known: it is sent everything the next time.
        node.known = number if isinstance(update, Update) else 0
        return update

    def _ask(self, messages: Iterable[Message]) -> dict[int, Message]:
        """Send the messages, wait for all replies or for the timeout, and return them by node.

        Flower's own loop asks every three seconds and tells replies by who sent them; the word that
        a node is gone comes from the SuperLink, and the message it answers is all it names.
        """
        sent, replies = self._push(messages), dict[int, Message]()
        end = time.monotonic() + self._plan.federated.timeout_seconds
        while len(replies) < len(sent):
            missing = {i: node for i, node in sent.items() if node not in replies}
            replies |= self._pull(missing)
            if (left := end - time.monotonic()) <= 0:
                break
            if len(replies) < len(sent):
                time.sleep(min(_WAIT_SECONDS, left))
        return replies

    def _push(self, messages: Iterable[Message]) -> dict[str, int]:
        """Send the messages; return by the number of each that was taken its node."""
        orders = list(messages)
        pushed = set(self._grid.push_messages(orders)) if orders else set()
        sent = {each.metadata.message_id: each.metadata.dst_node_id for each in orders}
        return {number: node for number, node in sent.items() if number in pushed}

    def _pull(self, sent: Mapping[str, int]) -> dict[int, Message]:
        """Return by node the replies to ``sent`` that are there."""
        replies = self._grid.pull_messages(sorted(sent)) if sent else ()
        return {sent[each.metadata.reply_to_message_id]: each for each in replies}

    def _order(self, number: int, *, since: int, tensors: Tensors) -> Order:
        return Order(self._plan.digest, number, since, tensors)

    def _read(
        self,
        replies: Mapping[int, Message],
        node: int,
        *,
        round_number: int,
        like: Mapping[str, Tensor],
    ) -> Update | Refusal:
        if node not in replies:
            seconds = self._plan.federated.timeout_seconds
            return Refusal(f"no answer within {seconds:g} s (federated.timeout_seconds)")
        return read_update(replies[node], round_number=round_number, like=like)
