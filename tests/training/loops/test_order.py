"""The order of rows depends on seed and epoch alone, and may put rows of like lengths together."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from rankwise.training.loops.order import EpochOrder, epoch_order

LENGTHS = [(7 * row) % 61 for row in range(1003)]


@given(
    lengths=st.lists(st.integers(0, 50), min_size=1, max_size=300),
    batch_size=st.integers(1, 9),
    epoch=st.integers(0, 3),
)
def test_every_row_comes_once(lengths, batch_size, epoch):
    order = epoch_order(len(lengths), seed=0, epoch=epoch, lengths=lengths, batch_size=batch_size)
    assert sorted(order.tolist()) == list(range(len(lengths)))


def test_seed_and_epoch_decide():
    first, again = (epoch_order(100, seed=1, epoch=2) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, epoch_order(100, seed=1, epoch=3))
    assert not torch.equal(first, epoch_order(100, seed=2, epoch=2))


def padding(order):
    """Return the padded tokens of batches of eight."""
    batches = [[LENGTHS[row] for row in batch.tolist()] for batch in order.split(8)]
    return sum(max(batch) * len(batch) - sum(batch) for batch in batches)


def test_batches_of_like_lengths_need_little_padding():
    plain = epoch_order(1003, seed=0, epoch=0)
    grouped = epoch_order(1003, seed=0, epoch=0, lengths=LENGTHS, batch_size=8)
    assert padding(grouped) < 0.1 * padding(plain)


def test_grouped_batches_come_in_random_order():
    order = epoch_order(1003, seed=0, epoch=0, lengths=LENGTHS, batch_size=8)
    longest = [max(LENGTHS[row] for row in batch.tolist()) for batch in order.split(8)]
    rising = sum(second > first for first, second in itertools.pairwise(longest))
    assert 30 < rising < 95


def test_a_sampler_follows_the_epoch_it_is_told():
    sampler = EpochOrder(lambda epoch: epoch_order(9, seed=0, epoch=epoch), size=9)
    assert len(sampler) == 9
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) == epoch_order(9, seed=0, epoch=1).tolist() != first
