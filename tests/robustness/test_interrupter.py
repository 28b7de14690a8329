"""What counts as a moment at which a call can be broken off."""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import ModuleType
from typing import Any

import peft
import pytest
import torch
import torch._dynamo

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
    finalized = written_in(peft, "class it:\n    def __del__(self): pass")

    def leave_garbage() -> None:
        one = finalized()
        one.itself = one

    assert_calm_but(leave_garbage, at_ground=2)


def test_what_the_compiler_hears_of_modules_that_die_is_no_moment():
    assert_calm_but(written_in(torch._dynamo, "def it(): pass"), at_ground=2)


def assert_calm_but(call: Callable[[], Any], *, at_ground: int) -> None:
    """Nothing is amiss where one of the calls that are listed does more than the others."""
    always = written_in(peft, "def it(): pass")
    work = written_in(rankwise, "def it(*calls): return [[call()] for call in calls]")
    grounds: list[list] = []

    def make() -> list:
        grounds.append([])
        return grounds

    def act(_: list) -> None:
        work(always, *[call] * (len(grounds) == at_ground), *[list] * 9)

    assert not sweep(make, act, lambda *_: None, moments=CALLS, strike=runtime_error)


def written_in(package: ModuleType, source: str) -> Any:
    """Return what ``source`` calls ``it``, as if it stood in a file of ``package``."""
    names: dict[str, Any] = {}
    exec(compile(source, str(package.__file__), "exec"), names)
    return names["it"]
