"""Gradients of stacks of matrices, such as the weights of experts, which no layer multiplies.

While their module computes, a copy of the stack that autograd watches stands in its place; what
reaches that copy in the backward pass is the gradient of all matrices at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Stack:
    """A stack of matrices, or one matrix, that a module holds as a parameter and reads.

    Attributes:
        module: The module.
        parameter_name: The name of the parameter in it.
        is_transposed: Whether it is (experts, in, out) and not (experts, out, in).
    """

    module: nn.Module
    parameter_name: str
    is_transposed: bool

    @property
    def parameter(self) -> nn.Parameter:
        """The stack itself."""
        return getattr(self.module, self.parameter_name)

    @property
    def shape(self) -> tuple[int, ...]:
        """(experts, out, in), or of one matrix (out, in)."""
        *stack, rows, columns = self.parameter.shape
        return (*stack, columns, rows) if self.is_transposed else (*stack, rows, columns)


Source = nn.Module | Stack
"""What a gradient is taken of: a linear layer or a stack."""


@contextmanager
def watched(stack: Stack, watch: Callable[[Tensor], None]) -> Iterator[None]:
    """Put a copy in the place of a stack whenever its module computes, and ``watch`` it.

    ``watch`` gets the copy, no leaf, before the module computes.
    """
    taken: list[tuple[dict[str, Any], str, Tensor]] = []

    def before(*_: Any) -> None:
        parameters, name = _place_of(stack)
        taken.append((parameters, name, parameters[name]))
        if torch.is_grad_enabled():
            leaf = parameters[name].detach().requires_grad_()
            copy = leaf.view_as(leaf)
            watch(copy)
            parameters[name] = copy

    def after(*_: Any) -> None:
        parameters, name, original = taken.pop()
        parameters[name] = original

    handles = [
        stack.module.register_forward_pre_hook(before),
        stack.module.register_forward_hook(after, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        while taken:
            after()


def _place_of(stack: Stack) -> tuple[dict[str, Any], str]:
    """Return where a stack lies: PEFT's adapters are a parametrization of it while they act."""
    parametrizations: Any = getattr(stack.module, "parametrizations", {})
    if stack.parameter_name in parametrizations:
        return parametrizations[stack.parameter_name]._parameters, "original"
    return stack.module._parameters, stack.parameter_name
