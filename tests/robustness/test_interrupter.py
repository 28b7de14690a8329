"""What counts as a moment at which a call can be broken off."""

from __future__ import annotations

import gc
import itertools
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

    assert_calm_but(leave_garbage)


def test_what_the_compiler_hears_of_modules_that_die_is_no_moment():
    assert_calm_but(written_in(torch._dynamo, "def it(): pass"))


def assert_calm_but(call: Callable[[], Any]) -> None:
    """Nothing is amiss where the act whose moments are listed makes one call more than the rest."""
    always = written_in(peft, "def it(): pass")
    work = written_in(rankwise, "def it(*calls): return [[call()] for call in calls]")
    grounds = itertools.count(1)

    def act(ground: int) -> None:
        work(always, *[call] * (ground == 2), *[list] * 9)

    options = {"moments": CALLS, "strike": runtime_error}
    assert not sweep(grounds.__next__, act, lambda *_: None, **options)


def written_in(package: ModuleType, source: str) -> Any:
    """Return what ``source`` calls ``it``, as if it stood in a file of ``package``."""
    names: dict[str, Any] = {}
    exec(compile(source, str(package.__file__), "exec"), names)
    return names["it"]
