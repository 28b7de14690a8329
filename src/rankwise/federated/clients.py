"""The server's side of its clients: who is there, what each knows, and what each answers.

A client that fails, answers too late or sends what cannot be averaged is left out of the round and
named in the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.serverapp import Grid
from torch import Tensor

from rankwise.core.errors import TrainingError
from rankwise.federated.exchange import State, Tensors, check_enough, count_bytes
from rankwise.federated.messages import BEGIN, HELLO, TRAIN, Order, Refusal, Update, read_update
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
    """The clients of a plan, as Flower's grid reaches them."""

    def __init__(self, grid: Grid, plan: Plan) -> None:
        self._grid, self._plan = grid, plan
        self._nodes: dict[int, _Node] = {}
        self._strangers: set[int] = set()

    def await_all(self) -> None:
        """Wait until all clients are there, or for the timeout; too few are an error.

        Raises:
            TrainingError: Fewer than ``min_clients`` came.
        """
        federated = self._plan.federated
        end = time.monotonic() + federated.timeout_seconds
        self.greet()
        while len(self._nodes) < federated.clients and time.monotonic() < end:
            time.sleep(_WAIT_SECONDS)
            self.greet()
        check_enough(len(self._nodes), needed=federated.min_clients, round_number=0)

    def greet(self) -> None:
        """Forget nodes that are gone, and ask new ones which clients they are."""
        present = set(self._grid.get_node_ids())
        self._nodes = {i: each for i, each in self._nodes.items() if each.number in present}
        new = present - {each.number for each in self._nodes.values()} - self._strangers
        if not new:
            return
        order = self._order(0, since=0, tensors={})
        replies = self._ask(order.message(node, HELLO) for node in sorted(new))
        for node in new:
            update = _read(replies, node, round_number=0, like={})
            if isinstance(update, Refusal):
                self._strangers.add(node)
                logger.warning("node %d takes no part: %s", node, update.reason)
            else:
                self._nodes[update.client] = _Node(node)

    def make_start(self, like: Mapping[str, Tensor]) -> Tensors:
        """Return the start that the first client which can makes from its rows.

        Raises:
            TrainingError: None can.
        """
        order = self._order(0, since=0, tensors={})
        for client, node in sorted(self._nodes.items()):
            replies = self._ask([order.message(node.number, BEGIN)])
            update = _read(replies, node.number, round_number=0, like=like)
            if isinstance(update, Update):
                return update.tensors
            logger.warning("client %d makes no start: %s", client, update.reason)
        raise TrainingError("no client could make the start from its rows: the log says why")

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

    def _update_of(
        self, client: int, replies: dict[int, Message], number: int, like: Mapping[str, Tensor]
    ) -> Update | Refusal:
        if client not in self._nodes:
            return Refusal("it is not there")
        node = self._nodes[client]
        update = _read(replies, node.number, round_number=number, like=like)
        if isinstance(update, Update) and update.client != client:
            update = Refusal(f"it calls itself client {update.client}")
        # What a client that failed knows is not known: it is sent everything the next time.
        node.known = number if isinstance(update, Update) else 0
        return update

    def _ask(self, messages: Iterable[Message]) -> dict[int, Message]:
        """Send the messages, wait for all replies or for the timeout, and return them by node.

        Flower's own loop asks every three seconds and tells replies by who sent them; the word that
        a node is gone comes from the SuperLink, and the message it answers is all it names.
        """
        orders = list(messages)
        pushed = set(self._grid.push_messages(orders)) if orders else set()
        sent = {each.metadata.message_id: each.metadata.dst_node_id for each in orders}
        open_ones, replies = pushed & sent.keys(), dict[int, Message]()
        end = time.monotonic() + self._plan.federated.timeout_seconds
        while open_ones:
            for reply in self._grid.pull_messages(sorted(open_ones)):
                answered = reply.metadata.reply_to_message_id
                replies[sent[answered]] = reply
                open_ones.discard(answered)
            if (left := end - time.monotonic()) <= 0:
                break
            if open_ones:
                time.sleep(min(_WAIT_SECONDS, left))
        return replies

    def _order(self, number: int, *, since: int, tensors: Tensors) -> Order:
        return Order(self._plan.digest, number, since, tensors)


def _read(
    replies: Mapping[int, Message], node: int, *, round_number: int, like: Mapping[str, Tensor]
) -> Update | Refusal:
    if node not in replies:
        return Refusal("no answer in time")
    return read_update(replies[node], round_number=round_number, like=like)
