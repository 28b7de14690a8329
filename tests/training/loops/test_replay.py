"""What was recorded does the same on other tensors, and what cannot be is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rankwise.training.loops.replay import NotReplayableError, recorded


def gradient(tensors):
    weight, rows = tensors
    loss = (rows @ weight.T).relu().square().sum()
    return {"loss": loss.detach(), "gradient": torch.autograd.grad(loss, weight)[0]}


def pair(seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 3, generator=generator, requires_grad=True)
    return weight, torch.randn(4, 3, generator=generator)


def test_a_gradient_is_replayed_on_other_tensors_to_the_last_bit():
    first, replay = recorded(gradient, pair(0))
    for seed, expected in ((0, first), (1, gradient(pair(1)))):
        found = replay(pair(seed))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_is_written_to_memory_of_its_own_is_replayed():
    def filled(tensors):
        copy = tensors[0] * 2
        return copy.masked_fill_(tensors[0] < 0, 0.0)

    _, replay = recorded(filled, [torch.tensor([1.0, -1.0])])
    assert replay([torch.tensor([-3.0, 3.0])]).tolist() == [0.0, 6.0]


def test_what_is_asked_of_no_tensor_is_the_same_each_time():
    def widened(tensors):
        dtype = torch.promote_types(tensors[0].dtype, torch.float64)
        return tensors[0].to(dtype) / 3

    first, replay = recorded(widened, [torch.tensor([1.0, 2.0])])
    assert first.dtype == torch.float64
    assert torch.equal(replay([torch.tensor([4.0, 5.0])]), torch.tensor([4.0, 5.0]).double() / 3)


@pytest.mark.parametrize(
    "function",
    [
        lambda tensors: nn.functional.dropout(tensors[0], 0.5),
        lambda tensors: tensors[0] if tensors[0].sum() > 0 else -tensors[0],
        lambda tensors: tensors[0].nonzero(),
        lambda tensors: tensors[0].add_(1),
        lambda tensors: tensors[0][:1].zero_(),
        lambda tensors: (tensors[0] * 1).add_(1),
        lambda tensors: tensors[0] + OUTSIDE,
    ],
    ids=["random", "branch", "sizes", "input", "view", "copy", "outside"],
)
def test_what_may_differ_the_next_time_is_refused(function):
    with pytest.raises(NotReplayableError):
        recorded(function, [torch.ones(3)])


OUTSIDE = torch.ones(3)
