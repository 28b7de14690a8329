"""Modifiers of Flower's that break a client app on purpose."""

from __future__ import annotations

import os
import time
from pathlib import Path


def second_fails_in_first_round(message, context, call_next):
    """Raise in client 1 when it is to train in round 1."""
    order = message.content.config_records["order"]
    if order["round"] == 1 and context.node_config["partition-id"] == 1:
        raise RuntimeError("the power went out")
    return call_next(message, context)


def second_lingers_in_second_round(message, context, call_next):
    """Let client 1 train in round 2 for ever, and the next time as others do."""
    lingers = Path(os.environ["RANKWISE_FEDERATED"]) / "lingers"
    order = message.content.config_records["order"]
    if (order["round"], context.node_config["partition-id"]) == (2, 1) and not lingers.exists():
        lingers.touch()
        time.sleep(3600)
    return call_next(message, context)
