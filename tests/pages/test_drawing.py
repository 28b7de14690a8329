"""Names at the ends of lines: in their order, apart, and not above the chart."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from rankwise.pages import drawing


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.floats(0.001, 0.08),
)
def test_spread_names_keep_their_order_their_distance_and_below_the_ceiling(values, gap):
    placed = drawing.spread(values, gap=gap, ceiling=1.0)
    order = sorted(range(len(values)), key=lambda i: values[i])
    heights = [placed[i] for i in order]
    assert all(low + gap <= high + 1e-9 for low, high in itertools.pairwise(heights))
    assert max(placed) <= 1.0


def test_names_that_are_far_apart_already_stay_where_their_lines_end():
    assert drawing.spread([0.9, 0.1, 0.5], gap=0.2, ceiling=1.0) == [0.9, 0.1, 0.5]
