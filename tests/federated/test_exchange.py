"""What is sent, what it is averaged to, and what is refused."""

from __future__ import annotations

import re

import pytest
import torch

from rankwise.core.errors import TrainingError
from rankwise.federated.exchange import (
    State,
    check_enough,
    count_bytes,
    distance,
    fault_of,
    weighted_mean,
    weights_of,
)


def test_the_mean_is_weighted_by_the_numbers_of_examples():
    uploads = [{"R": torch.tensor([0.0, 4.0])}, {"R": torch.tensor([4.0, 0.0])}]
    assert weighted_mean(uploads, weights_of([30, 10]))["R"].tolist() == [1.0, 3.0]


def test_the_mean_of_one_client_is_its_update_bit_for_bit():
    upload = {"R": torch.randn(7, 5)}
    assert torch.equal(weighted_mean([upload], weights_of([13]))["R"], upload["R"])


def test_a_client_is_sent_what_is_newer_than_what_it_knows():
    state = State()
    state.put({"pair": torch.zeros(4)}, 1)
    state.put({"core": torch.zeros(2)}, 1)
    state.put({"core": torch.ones(2)}, 3)
    assert state.newer_than(0).keys() == {"pair", "core"}
    assert state.newer_than(1).keys() == {"core"}
    assert state.newer_than(3) == {}
    assert count_bytes(state.newer_than(0)) == 6 * 4


def test_the_distance_is_relative_to_the_mean_of_the_updates():
    changes = [{"W": torch.tensor([[2.0, 0.0]])}, {"W": torch.tensor([[0.0, 2.0]])}]
    assert distance(changes, [0.5, 0.5], {"W": torch.tensor([[1.0, 1.0]])}) == 0
    assert distance(changes, [0.5, 0.5], {"W": torch.zeros(1, 2)}) == pytest.approx(1)
    assert distance([{"W": torch.zeros(2)}], [1.0], {"W": torch.zeros(2)}) == 0


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


def test_a_run_with_too_few_clients_stops():
    check_enough(2, needed=2, round_number=4)
    with pytest.raises(TrainingError, match=r"round 4: 1 clients .* at least 2 .* --resume"):
        check_enough(1, needed=2, round_number=4)
