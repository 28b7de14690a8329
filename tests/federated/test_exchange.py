"""What is sent, and what is refused."""

from __future__ import annotations

import re

import pytest
import torch

from rankwise.federated.exchange import State, count_bytes, fault_of


def test_a_client_is_sent_what_is_newer_than_what_it_knows():
    state = State()
    state.put({"pair": torch.zeros(4)}, 1)
    state.put({"core": torch.zeros(2)}, 1)
    state.put({"core": torch.ones(2)}, 3)
    assert state.newer_than(0).keys() == {"pair", "core"}
    assert state.newer_than(1).keys() == {"core"}
    assert state.newer_than(3) == {}
    assert count_bytes(state.newer_than(0)) == 6 * 4


@pytest.mark.parametrize(
    ("upload", "reason"),
    [
        ({"A": torch.zeros(2, 3)}, None),
        ({"A": torch.zeros(3, 2)}, r"A must be torch.float32 of shape \(2, 3\), got .*\(3, 2\)"),
        ({"A": torch.zeros(2, 3).double()}, "got torch.float64"),
        ({"A": torch.full((2, 3), torch.nan)}, "A is not finite"),
        ({"B": torch.zeros(2, 3)}, r"not those of this method \(A, B\)"),
    ],
)
def test_an_update_that_cannot_be_averaged_says_why(upload, reason):
    fault = fault_of(upload, {"A": torch.ones(2, 3)})
    assert (fault is None) == (reason is None)
    assert re.search(reason or "", fault or "")
