"""An axis has three ticks at least, with units that a reader has not to convert."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankwise.comparison.report.fronts import MEMORY, PARAMETERS, TIME
from rankwise.comparison.report.ticks import ticks


@pytest.mark.parametrize(
    ("front", "low", "high", "texts"),
    [
        (PARAMETERS, 1.3e6, 2.9e6, ["1.5M", "2M", "2.5M"]),
        (PARAMETERS, 90, 2e5, ["100", "1k", "10k", "100k"]),
        (TIME, 31, 121, ["1 min", "1.5 min", "2 min"]),
        (TIME, 30, 125, ["0.5 min", "1 min", "2 min"]),
        (TIME, 200, 2000, ["5 min", "10 min", "20 min"]),
        (TIME, 0.5, 9000, ["600 ms", "1 min", "1.667 h"]),
        (MEMORY, 0.7e9, 1.4e9, ["800 MB", "1000 MB", "1200 MB", "1400 MB"]),
    ],
)
def test_ticks_are_round_in_their_unit(front, low, high, texts):
    assert ticks(low, high, units=front.units)[1] == texts


@given(st.floats(1e-3, 1e12), st.floats(1.9, 1e6))
def test_there_are_three_in_any_range(low, ratio):
    at, texts = ticks(low, low * ratio, units=MEMORY.units)
    assert len(set(texts)) == len(at) >= 3
    assert all(low * (1 - 1e-9) <= tick <= low * ratio * (1 + 1e-9) for tick in at)
