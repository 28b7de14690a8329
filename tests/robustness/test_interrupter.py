"""What counts as a moment at which a call can be broken off."""

from __future__ import annotations

import gc
from types import ModuleType
from typing import Any

import peft
import pytest

import rankwise

from .interrupter import CALLS, runtime_error, sweep


@pytest.fixture
def eager_collection():
    before = gc.get_threshold()
    gc.set_threshold(1)
    yield
    gc.set_threshold(*before)


def test_what_garbage_collection_calls_is_no_moment(eager_collection):
    """It comes at another line each time, and would be waited for in vain."""
    work = written_in(rankwise, "def it(call): call(); return [[] for _ in range(9)]")
    finalized = written_in(peft, "class it:\n    def __del__(self): pass")
    grounds: list[list] = []

    def make() -> list:
        grounds.append([])
        return grounds

    def act(_: list) -> None:
        if len(grounds) == 2:  # the call whose moments are listed
            one = finalized()
            one.itself = one
            del one
        work(peft.PeftConfig)

    assert not sweep(make, act, lambda *_: None, moments=CALLS, strike=runtime_error)


def written_in(package: ModuleType, source: str) -> Any:
    """Return what ``source`` calls ``it``, as if it stood in a file of ``package``."""
    names: dict[str, Any] = {}
    exec(compile(source, str(package.__file__), "exec"), names)
    return names["it"]
