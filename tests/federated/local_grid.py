"""Flower's grid without Flower's engine: each client answers at once, in this process."""

from __future__ import annotations

from flwr.app import Context, Error, Message, RecordDict
from flwr.server.superlink.linkstate.utils import create_message_error_unavailable_res_message
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity


class LocalGrid(Grid):
    """Carries messages to one client app, which plays every client.

    Args:
        app: The client app.
        clients: How many nodes there are, or the partition of each; their numbers begin at 100.
        faults: By (node - 100, round): ``"fails"``, ``"silent"``, ``"gone"``, a number of times
            that the reply is asked for in vain, or what is done to the reply.
    """

    def __init__(self, app, clients, faults=None):
        self.app, self.faults = app, faults or {}
        partitions = range(clients) if isinstance(clients, int) else clients
        # A message is signed with these; Flower's own engines set them in the same way.
        TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1
        self.contexts = {
            node: Context(1, node, {"partition-id": partition}, RecordDict(), {})
            for node, partition in enumerate(partitions, start=100)
        }
        self.sent, self.replies, self.vain = [], {}, {}

    def get_node_ids(self):
        return list(self.contexts)

    def push_messages(self, messages):
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(len(self.sent))
            if (reply := self._answer(message)) is not None:
                self.replies[message.metadata.message_id] = reply
        return [message.metadata.message_id for message in messages]

    def pull_messages(self, message_ids):
        ready = [each for each in message_ids if each in self.replies and not self._is_late(each)]
        return [self.replies.pop(each) for each in ready]

    def _is_late(self, message_id):
        left = self.vain.get(message_id, 0)
        self.vain[message_id] = left - 1
        return left > 0

    def _answer(self, message):
        node = message.metadata.dst_node_id
        context = self.contexts[node]
        number = message.content.config_records["order"]["round"]
        fault = self.faults.get((node - 100, number))
        self.sent.append((node - 100, number, message))
        if fault == "silent":
            return None
        if fault == "gone":
            return create_message_error_unavailable_res_message(message.metadata, "node_unavail")
        try:
            if fault == "fails":
                raise RuntimeError("the power went out")
            reply = self.app(message, context)
        except Exception as error:
            return Message(Error(0, f"Exception\n{error}"), reply_to=message)
        if isinstance(fault, int):
            self.vain[message.metadata.message_id] = fault
        elif fault is not None:
            fault(reply)
        return reply

    def set_run(self, run):
        raise NotImplementedError

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
        raise NotImplementedError

    def send_and_receive(self, messages, *, timeout=None):
        raise NotImplementedError
