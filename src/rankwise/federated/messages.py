"""The messages between server and clients, as Flower's records, and how they are read.

What comes from outside is data to be checked: a reply that is not what was asked for becomes a
``Refusal`` that says why, and never an exception in the server.

    hello   →  which client is it, how many rows has it, and was it given the same plan?
    begin   →  make the start from your rows              ←  what others need of it
    train   →  the round, and what is new in the state    ←  what the client has trained
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from torch import Tensor

from rankwise.core.outside_text import one_line
from rankwise.federated.exchange import Tensors, fault_of

HELLO, BEGIN, TRAIN = "query", "query.begin", "train"


@dataclass(frozen=True)
class Order:
    """What the server asks of a client.

    Attributes:
        plan: The digest of the plan that the server follows.
        round_number: The round, 0 before the first.
        since: What the client is taken to know already: the state up to this stamp.
        tensors: What is newer.
    """

    plan: str
    round_number: int
    since: int
    tensors: Tensors

    def message(self, node: int, kind: str) -> Message:
        """Return the message to ``node``."""
        head = {"plan": self.plan, "round": self.round_number, "since": self.since}
        content = RecordDict({"order": ConfigRecord(head), "state": _record(self.tensors)})  # type: ignore[arg-type]
        return Message(content, node, kind)


@dataclass(frozen=True)
class Update:
    """What a client gives back: its number, its rows, and the tensors that were asked for."""

    client: int
    examples: int
    round_number: int
    tensors: Tensors

    def message(self, order: Message) -> Message:
        """Return the reply to ``order``."""
        facts = {
            "client": self.client,
            "examples": self.examples,
            "round": self.round_number,
        }
        content = RecordDict({"facts": MetricRecord(facts), "update": _record(self.tensors)})  # type: ignore[arg-type]
        return Message(content, reply_to=order)


@dataclass(frozen=True)
class Refusal:
    """Why a reply is not used: one line, whatever a stranger had to say."""

    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", one_line(self.reason))


def read_order(message: Message) -> Order:
    """Read what the server asks; a message of another kind raises a ``KeyError``."""
    head = message.content.config_records["order"]
    state = message.content.array_records["state"]
    return Order(
        str(head["plan"]),
        _integer(head["round"]),
        _integer(head["since"]),
        dict(state.to_torch_state_dict()),
    )


def is_unavailable(message: Message) -> bool:
    """Say whether a reply is the word of Flower's that there is none, of a node that went away."""
    return message.has_error() and message.error.code in (
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
        ErrorCode.NODE_UNAVAILABLE,
    )


def read_update(
    message: Message, *, round_number: int, like: Mapping[str, Tensor]
) -> Update | Refusal:
    """Read a reply, or say why it is refused.

    Args:
        message: The reply, or the error that Flower gives in its place.
        round_number: The round that was asked for.
        like: Tensors of the names, shapes and dtypes that are expected.
    """
    if message.has_error():
        return Refusal(f"it failed: {_last_line(message.error.reason)}")
    try:
        facts = message.content.metric_records["facts"]
        client, examples, number = (
            _integer(facts[name]) for name in ("client", "examples", "round")
        )
        tensors = dict(message.content.array_records["update"].to_torch_state_dict())
    except Exception as error:  # whatever a stranger can put into a record
        return Refusal(f"its reply cannot be read ({type(error).__name__}: {error})")
    if number != round_number:
        return Refusal(f"its update is of round {number}, not of round {round_number}")
    if examples < 1:
        return Refusal(f"it counts {examples} examples")
    if (fault := fault_of(tensors, like)) is not None:
        return Refusal(fault)
    return Update(client, examples, number, tensors)


def _record(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    return ArrayRecord.from_torch_state_dict(dict(tensors))


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected an integer, got {value!r}")
    return value


def _last_line(reason: str | None) -> str:
    lines = (reason or "").strip().splitlines() or ["no reason given"]
    return lines[-1].strip().removesuffix("'>")  # Flower writes <class>:<'message'>
