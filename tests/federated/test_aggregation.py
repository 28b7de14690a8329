"""What updates become together, and how far one wrong one can carry it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankwise.federated.aggregation import (
    aggregate,
    clip,
    distance,
    norms_of,
    trimmed_mean,
    weighted_mean,
    weights_of,
)
from rankwise.training.settings.federated import FederatedSettings

ROBUST = ["median", "trimmed-mean", "norm-clipping"]


def updates(*values):
    return [{"R": torch.tensor([float(value)])} for value in values]


def settings(aggregation, **options):
    return FederatedSettings(aggregation=aggregation, min_clients=3, **options)


def test_the_mean_is_weighted_by_the_numbers_of_examples():
    uploads = [{"R": torch.tensor([0.0, 4.0])}, {"R": torch.tensor([4.0, 0.0])}]
    assert weighted_mean(uploads, weights_of([30, 10]))["R"].tolist() == [1.0, 3.0]


def test_the_mean_of_one_client_is_its_update_bit_for_bit():
    upload = {"R": torch.randn(7, 5)}
    assert torch.equal(weighted_mean([upload], weights_of([13]))["R"], upload["R"])


@pytest.mark.parametrize(
    ("aggregation", "options", "expected"),
    [
        ("mean", {}, 3.75),  # (10·1 + 10·2 + 10·3 + 10·4 + 40·5) / 80
        ("median", {}, 3.0),
        ("trimmed-mean", {}, 3.0),  # (2 + 3 + 4) / 3
        ("norm-clipping", {"clipping_norm": 2.0}, 1.875),  # 1, 2, 2, 2, 2 weighted as above
        ("norm-clipping", {}, 2.625),  # the median norm is 3: 1, 2, 3, 3, 3
    ],
)
def test_each_aggregate_by_hand(aggregation, options, expected):
    uploads, present = updates(1, 2, 3, 4, 5), {"R": torch.zeros(1)}
    made = aggregate(uploads, [10, 10, 10, 10, 40], present, settings(aggregation, **options))
    assert made["R"].item() == pytest.approx(expected)


def test_the_median_of_an_even_number_is_the_mean_of_the_two_in_the_middle():
    made = aggregate(updates(1, 2, 4, 100), [1] * 4, {"R": torch.zeros(1)}, settings("median"))
    assert made["R"].item() == 3


@pytest.mark.parametrize("aggregation", ROBUST)
@pytest.mark.parametrize("wrong", [1e30, -1e30, 3e38])
def test_one_of_five_updates_cannot_carry_a_robust_aggregate_away(aggregation, wrong):
    honest = [torch.randn(4, 3, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    uploads = [{"A": each} for each in [*honest, torch.full((4, 3), wrong)]]
    made = aggregate(uploads, [10] * 5, {"A": torch.zeros(4, 3)}, settings(aggregation))
    assert made["A"].abs().max() < 2 * max(each.abs().max() for each in honest)


@given(
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=3, max_size=9),
    st.floats(0.01, 0.49),
)
def test_trimming_stays_between_what_is_left(values, trim):
    federated = FederatedSettings(aggregation="trimmed-mean", min_clients=3, trim=trim)
    cut = federated.trimmed_of(len(values))
    assert cut >= 1
    assert 2 * cut < len(values)
    kept = sorted(values)[cut : len(values) - cut]
    made = trimmed_mean(updates(*values), cut=cut)["R"].item()
    assert kept[0] <= made <= kept[-1]


def test_what_is_within_the_limit_is_not_clipped_and_what_is_beyond_keeps_its_direction():
    present = {"A": torch.tensor([1.0, 1.0]), "B": torch.tensor([1.0])}
    upload = {"A": torch.tensor([4.0, 1.0]), "B": torch.tensor([5.0])}
    assert norms_of([upload], present) == [5.0]
    assert clip(upload, present, 5.0) == upload
    clipped = clip(upload, present, 2.5)
    assert clipped["A"].tolist() == [2.5, 1.0]
    assert clipped["B"].tolist() == [3.0]


def test_the_distance_is_relative_to_the_mean_of_the_updates():
    changes = [{"W": torch.tensor([[2.0, 0.0]])}, {"W": torch.tensor([[0.0, 2.0]])}]
    assert distance(changes, [0.5, 0.5], {"W": torch.tensor([[1.0, 1.0]])}) == 0
    assert distance(changes, [0.5, 0.5], {"W": torch.zeros(1, 2)}) == pytest.approx(1)
    assert distance([{"W": torch.zeros(2)}], [1.0], {"W": torch.zeros(2)}) == 0


def test_a_distance_without_a_finite_value_is_none():
    assert distance([{"W": torch.zeros(2)}], [1.0], {"W": torch.ones(2)}) is None
    assert (
        distance(
            [{"W": torch.full((2,), 1e200, dtype=torch.float64)}], [1.0], {"W": torch.zeros(2)}
        )
        is None
    )
