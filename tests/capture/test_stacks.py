"""Gradients of stacks of matrices, against autograd's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rankwise.capture.gradients import capture_gradients
from rankwise.capture.stacks import Stack


class Experts(nn.Module):
    """Two experts, each for the rows that are its turn; what it reads is (experts, out, in)."""

    def __init__(self, *, is_transposed: bool) -> None:
        super().__init__()
        self.is_transposed = is_transposed
        shape = (2, 3, 4) if is_transposed else (2, 4, 3)
        generator = torch.Generator().manual_seed(0)
        self.stack = nn.Parameter(torch.randn(shape, generator=generator), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.stack.mT if self.is_transposed else self.stack
        return torch.stack([weight[number % 2] @ row for number, row in enumerate(x)])


def rows(seed: int) -> Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))


def loss(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).square().sum() + model(2 * x).sum()


@pytest.mark.parametrize("is_transposed", [False, True])
def test_the_gradient_is_that_of_autograd_over_calls_and_batches(is_transposed):
    model, found = Experts(is_transposed=is_transposed), {}
    batches = [rows(1), rows(2)]
    stack = Stack(model, "stack", is_transposed)
    capture_gradients(
        model, {"stack": stack}, batches=batches, consume=found.__setitem__, loss=loss
    )
    assert model.stack.grad is None
    assert not model.stack.requires_grad
    model.stack.requires_grad_(True)
    sum(loss(model, x) for x in batches).backward()
    expected = model.stack.grad.mT if is_transposed else model.stack.grad
    assert found["stack"].shape == stack.shape == (2, 4, 3)
    torch.testing.assert_close(found["stack"], expected)


def test_the_parameter_is_back_when_the_model_fails():
    model = Experts(is_transposed=False)
    parameter = model.stack

    def fail(model: nn.Module, x: Tensor) -> Tensor:
        return model(x[:, :1])

    with pytest.raises(Exception, match=r"."):
        capture_gradients(
            model,
            {"stack": Stack(model, "stack", False)},
            batches=[rows(1)],
            consume=lambda *_: None,
            loss=fail,
        )
    assert model.stack is parameter
