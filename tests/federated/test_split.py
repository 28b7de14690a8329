"""Every row goes to exactly one client; the Dirichlet law decides how alike the clients are."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.errors import SettingsError
from rankwise.federated.split import Share, split_by_label, split_evenly
from rankwise.tasks.splits import TensorSplit

LABELS = torch.arange(5).repeat(100)


def all_rows(shares):
    return sorted(row for share in shares for row in share.tolist())


def imbalance(shares):
    """How far the labels of the clients are from those of all, in the mean."""
    counts = torch.stack([LABELS[share].bincount(minlength=5).float() for share in shares])
    return float((counts / counts.sum(1, keepdim=True) - 0.2).abs().mean())


def test_an_even_split_deals_out_every_row_once():
    shares = split_evenly(103, clients=4, seed=0)
    assert all_rows(shares) == list(range(103))
    assert [len(share) for share in shares] == [26, 26, 26, 25]


@pytest.mark.parametrize("alpha", [0.01, 0.5, 100])
def test_the_law_deals_out_every_row_once_and_leaves_no_client_without(alpha):
    shares = split_by_label(LABELS, clients=8, alpha=alpha, seed=1)
    assert all_rows(shares) == list(range(500))
    assert min(len(share) for share in shares) >= 1


def test_a_small_alpha_makes_clients_unlike():
    few, many = (split_by_label(LABELS, clients=4, alpha=alpha, seed=0) for alpha in (0.1, 1000))
    assert imbalance(many) < 0.02 < 0.1 < imbalance(few)


@pytest.mark.parametrize(
    "split",
    [
        lambda seed: split_evenly(100, clients=4, seed=seed),
        lambda seed: split_by_label(LABELS, clients=4, alpha=0.5, seed=seed),
    ],
)
def test_a_seed_gives_the_same_split_again_and_another_seed_another(split):
    first, again, other = ([share.tolist() for share in split(seed)] for seed in (3, 3, 4))
    assert first == again != other


def test_a_share_takes_its_own_rows():
    rows = TensorSplit({"features": torch.arange(10), "labels": torch.arange(10) % 2})
    share = Share(rows, torch.tensor([7, 2, 5]))
    assert len(share) == 3
    assert share.take(torch.tensor([2, 0]))["features"].tolist() == [5, 7]
    assert share.take(slice(2))["labels"].tolist() == [1, 0]


def test_what_cannot_be_split_is_refused():
    with pytest.raises(SettingsError, match=r"between 1 and 3 .* got 4"):
        split_evenly(3, clients=4, seed=0)
    with pytest.raises(SettingsError, match="alpha must be positive, got 0"):
        split_by_label(LABELS, clients=2, alpha=0, seed=0)
    with pytest.raises(SettingsError, match=r"use federated\.split 'even'"):
        split_by_label(torch.rand(9), clients=2, alpha=1, seed=0)
