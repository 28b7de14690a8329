"""Cores are counted as far as this process may use them."""

from __future__ import annotations

import os

import pytest

from rankwise.core.cores import usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores can be left on Linux alone")
def test_cores_that_a_process_may_not_use_do_not_count():
    allowed = os.sched_getaffinity(0)
    assert usable_cores() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
