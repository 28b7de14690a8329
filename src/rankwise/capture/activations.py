"""Activations of chosen modules, in the order in which a forward pass calls them.

What is captured is a *call*, not a module: a module that a model calls in every block counts as
often as it is called, and nothing is overwritten. The forward pass ends after the last call that
is wanted. All state belongs to one capture, so two of them, on one model or on two, do not know of
each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rankwise.core.errors import ModelError
from rankwise.core.undoing import undone

Side = Literal["input", "output"]


class _Enough(BaseException):
    """Ends a forward pass; no ``except Exception`` inside the model may hold it up."""


def list_calls(
    forward: Callable[[], object], modules: Mapping[str, nn.Module], *, side: Side
) -> list[str]:
    """Run ``forward`` to its end and return the name of the module of each call.

    Args:
        forward: Runs the model, for example ``lambda: model(**batch)``.
        modules: The modules to watch, under their names.
        side: Whether the first input or the output of a module is meant.
    """
    calls: list[str] = []
    with _hooked(modules, side, lambda name, _value: calls.append(name)):
        forward()
    return calls


def capture_activations(
    forward: Callable[[], object],
    modules: Mapping[str, nn.Module],
    *,
    side: Side,
    calls: Collection[int],
) -> list[Tensor]:
    """Run ``forward`` up to the last of ``calls`` and return the activation of each, in call order.

    Calls are counted from 0 over all of ``modules``, as :func:`list_calls` lists them. An
    activation is a copy, which what follows cannot change in place, and carries its graph where
    gradients are on.

    Raises:
        ModelError: The forward pass made fewer calls than before, or one of other than a tensor.
    """
    wanted, last = frozenset(calls), max(calls)
    captured: list[Tensor] = []
    count = 0

    def visit(_name: str, value: Tensor) -> None:
        nonlocal count
        if count in wanted:
            captured.append(value.clone())
        if count == last:
            raise _Enough
        count += 1

    with _hooked(modules, side, visit), contextlib.suppress(_Enough):
        forward()
    if len(captured) != len(wanted):
        raise ModelError(
            f"a forward pass called the monitored modules {count} times, expected {last + 1} or "
            "more: the batches must take the same way through the model"
        )
    return captured


@contextlib.contextmanager
def _hooked(
    modules: Mapping[str, nn.Module], side: Side, visit: Callable[[str, Tensor], None]
) -> Iterator[None]:
    handles: list[RemovableHandle] = []

    def remove() -> None:
        for handle in handles:
            handle.remove()

    with undone(remove):
        for name, module in modules.items():
            if side == "input":
                handles.append(module.register_forward_pre_hook(_on_input(name, visit)))
            else:
                handles.append(module.register_forward_hook(_on_output(name, visit)))
        yield


def _on_input(name: str, visit: Callable[[str, Tensor], None]) -> Callable[..., None]:
    def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        visit(name, _checked(name, inputs[0]))

    return hook


def _on_output(name: str, visit: Callable[[str, Tensor], None]) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        visit(name, _checked(name, output))

    return hook


def _checked(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise ModelError(
            f"the activation of {name} must be one tensor, got {type(value).__name__}: "
            "monitor a layer inside it"
        )
    return value
