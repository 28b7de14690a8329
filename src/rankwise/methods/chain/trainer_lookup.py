"""The Trainer that is calling a callback: none of its events hands it over.

A Trainer tells ``on_init_end`` its arguments, its model and its state, but not itself, and has no
event for an exception in ``train``. So the frames of the call are looked through for the object
whose handler holds the callback. ``tests/methods/chain/test_trainer_lookup.py`` says with which
trainers that is tried.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from transformers import TrainerCallback


def find_trainer(callback: TrainerCallback) -> Any:
    """Return the object amid whose call this one happens and whose callbacks include ``callback``.

    None if there is no such object.
    """
    frame: FrameType | None = sys._getframe()
    while (frame := frame.f_back) is not None:
        candidate = frame.f_locals.get("self")
        handler = getattr(candidate, "callback_handler", None)
        if callback in getattr(handler, "callbacks", ()):
            return candidate
    return None
