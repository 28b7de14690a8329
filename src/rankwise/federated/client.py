"""The client app: it trains on its own rows and sends up what trains, no more.

Between rounds a client keeps what it has received, in the state that Flower keeps for it. A client
that has lost it says so, and is sent everything the next time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod

from rankwise.core.errors import SettingsError, TrainingError
from rankwise.federated.exchange import Tensors
from rankwise.federated.local import Participant
from rankwise.federated.messages import Order, Update, read_order
from rankwise.training.settings.federation_plan import Plan

_MEMORY, _KNOWN = "memory", "known"


def make_client_app(plan: Plan, cache: Path, *, mods: Sequence[Mod] = ()) -> ClientApp:
    """Return the client app of a plan; its base model is kept in ``cache``.

    Args:
        plan: What server and clients agree on.
        cache: A folder of this client's machine.
        mods: Flower's modifiers around it.
    """
    app = ClientApp(mods=list(mods))

    @app.query()
    def hello(message: Message, context: Context) -> Message:
        order, client = _checked(message, plan), _number(context, plan)
        rows = len(Participant(plan, cache, client=client).job.splits.train)
        return Update(client, rows, order.round_number, {}).message(message)

    @app.query("begin")
    def begin(message: Message, context: Context) -> Message:
        order, client = _checked(message, plan), _number(context, plan)
        participant = Participant(plan, cache, client=client)
        start, rows = participant.begin(), len(participant.job.splits.train)
        return Update(client, rows, order.round_number, start).message(message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        order, client = _checked(message, plan), _number(context, plan)
        participant = Participant(plan, cache, client=client)
        participant.strategy.enter(_remember(context, order), order.round_number)
        trained = participant.train(order.round_number)
        rows = len(participant.job.splits.train)
        return Update(client, rows, order.round_number, trained).message(message)

    return app


def _number(context: Context, plan: Plan) -> int:
    number = context.node_config.get("partition-id")
    if (
        isinstance(number, bool)
        or not isinstance(number, int)
        or not 0 <= number < plan.federated.clients
    ):
        raise SettingsError(
            f"partition-id must be an integer from 0 to {plan.federated.clients - 1}, got "
            f"{number!r}: set it in the SuperNode's --node-config"
        )
    return number


def _checked(message: Message, plan: Plan) -> Order:
    order = read_order(message)
    if order.plan != plan.digest:
        raise SettingsError("the server follows another plan: give both the same settings")
    return order


def _remember(context: Context, order: Order) -> Tensors:
    """Add what has come to what is known, and return all of it."""
    known = 0
    if _KNOWN in context.state.config_records:
        known = context.state.config_records[_KNOWN]["stamp"]
    assert isinstance(known, int)
    if order.since > known:
        raise TrainingError(f"what was sent is newer than stamp {order.since}, known is {known}")
    memory = dict(order.tensors)
    if order.since > 0:
        memory = dict(context.state.array_records[_MEMORY].to_torch_state_dict()) | memory
    context.state[_MEMORY] = ArrayRecord.from_torch_state_dict(memory)
    context.state[_KNOWN] = ConfigRecord({"stamp": order.round_number})
    return memory
