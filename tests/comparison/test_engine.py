"""The pool runs every call, and passes errors on."""

from __future__ import annotations

import math

import pytest

from rankwise.comparison.engine import LocalEngine


@pytest.fixture(scope="module")
def engine():
    with LocalEngine(1) as engine:
        yield engine


def test_every_call_gives_a_result(engine):
    assert sorted(engine.run(math.pow, [(2, 3), (3, 2), (1, 1)])) == [1.0, 8.0, 9.0]


def test_an_error_in_a_worker_reaches_the_caller(engine):
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        list(engine.run(math.sqrt, [(-1.0,)]))
