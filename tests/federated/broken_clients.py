"""Modifiers of Flower's that break a client app on purpose."""

from __future__ import annotations


def second_fails_in_first_round(message, context, call_next):
    """Raise in client 1 when it is to train in round 1."""
    order = message.content.config_records["order"]
    if order["round"] == 1 and context.node_config["partition-id"] == 1:
        raise RuntimeError("the power went out")
    return call_next(message, context)
