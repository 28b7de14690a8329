"""Taps on linear layers: the input x and the output's gradient dY of every call, side by side.

Autograd keeps x as it keeps what any operation needs, so that a block under checkpointing keeps
nothing and makes x again in the backward pass, when dY is there and asks for it.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.utils.hooks import RemovableHandle

from rankwise.capture.stacks import Source, Stack, watched
from rankwise.core.errors import ModelError
from rankwise.core.undoing import undone

Receive = Callable[[str, Tensor, Tensor], None]
ReceiveStack = Callable[[str, Tensor], None]


class Taps:
    """Calls ``receive(name, dY, x)`` in the backward pass, once for each call of a layer.

    Of a stack of matrices ``receive_stack(name, G)`` is called with its gradient instead, (experts,
    out, in).

    Attributes:
        open_calls: By layer, how many calls of the forward pass wait for their gradients, the one
            that is being received no longer among them.
    """

    def __init__(
        self, layers: Mapping[str, Source], receive: Receive, receive_stack: ReceiveStack
    ) -> None:
        self.open_calls: Counter[str] = Counter()
        self._layers = layers
        self._receive = receive
        self._receive_stack = receive_stack
        self._is_backward = False

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Watch the layers."""
        handles: list[RemovableHandle] = []
        with undone(lambda: _remove(handles)), contextlib.ExitStack() as stacks:
            for name, layer in self._layers.items():
                if isinstance(layer, Stack):
                    stacks.enter_context(watched(layer, self._watch(name, layer)))
                else:
                    handles.append(layer.register_forward_hook(self._forward_hook(name)))
            yield

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass of ``loss``; layers called in it are called *again*.

        It ends before the leaves of the graph: no ``.grad`` is added to, whoever's it is, no weight
        gradient is computed, and no hook of a parameter is called.
        """
        self._is_backward = True
        try:
            torch.autograd.grad(loss, _last_edges(loss), allow_unused=True)
        finally:
            self._is_backward = False
            self.open_calls.clear()

    def _forward_hook(self, name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not torch.is_grad_enabled():
                return output
            x = inputs[0].detach()
            if not output.requires_grad:
                # Nothing before this layer has a gradient: the graph begins here. The copy may be
                # changed in place by what follows, which a leaf may not.
                output = output.requires_grad_().clone()
            kept = _Keep.apply(torch.zeros((), requires_grad=True), x)
            if not self._is_backward:
                self.open_calls[name] += 1
                output.register_hook(self._backward_hook(name, kept, x._version))
            return output

        return hook

    def _watch(self, name: str, stack: Stack) -> Callable[[Tensor], None]:
        def receive(gradient: Tensor) -> None:
            self.open_calls[name] -= 1
            self._receive_stack(name, gradient.mT if stack.is_transposed else gradient)

        def watch(copy: Tensor) -> None:
            if not self._is_backward:
                self.open_calls[name] += 1
                copy.register_hook(receive)

        return watch

    def _backward_hook(self, name: str, kept: Tensor, version: int) -> Callable[[Tensor], None]:
        # The tensor, as a node lets go of what it saved when its tensor dies (before torch 2.13).
        # Let go of when used: the graph, and this hook in it, outlive the pass.
        held = [kept]

        def hook(dY: Tensor) -> None:
            x = _kept(held.pop(), version)
            if x is None:
                raise ModelError(
                    f"the input of {name} was changed in place after it was used: its gradient "
                    "cannot be taken by hooks"
                )
            self.open_calls[name] -= 1
            self._receive(name, dY, x)

        return hook


class _Keep(torch.autograd.Function):
    """Keeps x as autograd does, and is no part of the graph of the loss."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return anchor.clone()


def _last_edges(loss: Tensor) -> list[GradientEdge]:
    """Return the output of each node of the graph that passes gradients on to a leaf."""
    found, open_nodes = {loss.grad_fn}, [loss.grad_fn]
    last: dict[Any, GradientEdge] = {}
    while open_nodes:
        node: Any = open_nodes.pop()
        for following, _ in node.next_functions:
            if hasattr(following, "variable"):
                last[node] = GradientEdge(node, 0)
            elif following is not None and following not in found:
                found.add(following)
                open_nodes.append(following)
    return list(last.values())


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


def _kept(kept: Tensor, version: int) -> Tensor | None:
    """Return what was kept, None if it is no longer what it was."""
    node: Any = kept.grad_fn
    try:
        (x,) = node.saved_tensors
    except RuntimeError as error:
        if "modified by an inplace operation" in str(error):
            return None
        raise
    # Of an x that was made again autograd does not know; the same operations lead to one count.
    return x if x._version == version else None
