"""A function of tensors, recorded once and replayed as its operations alone.

Of a small model's step most is no arithmetic: modules calling one another, hooks, autograd and
``vmap`` decide anew, each time, on the same operations. They are recorded below all of these, where
PyTorch dispatches to its kernels, and called again on other tensors of the same shapes, so every
number stays the same to the last bit.

``torch.fx``'s ``make_fx`` records the same; it takes a third of a second for a network of three
layers, as much as it would save of a short run.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only, tree_unflatten

Function = Callable[[Sequence[Tensor]], Any]
"""From tensors to a tree of tensors."""

_aten = torch.ops.aten
# What depends on the values of tensors would be replayed for those of the recording.
_BY_VALUE = (
    torch.Tag.nondeterministic_seeded,
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
)
_SAME_VALUES = (_aten.detach, _aten.alias, _aten.view, _aten._unsafe_view, _aten.expand)


class NotReplayableError(Exception):
    """What a function does is no fixed list of operations on its tensors."""


def recorded(function: Function, inputs: Sequence[Tensor]) -> tuple[Any, Function]:
    """Call ``function`` and return what it returns, and a function that does the same operations.

    Args:
        function: Changes none of its tensors.
        inputs: All that it reads, tensors that are not views of one another.

    Raises:
        NotReplayableError: The function draws random numbers, changes a tensor, decides by values,
            or reads a tensor that is not among ``inputs``.
    """
    tape = _Tape(inputs)
    with tape:
        outputs = function(inputs)
    leaves, tree = tree_flatten(outputs)
    module = tape.finish(leaves)

    def replay(tensors: Sequence[Tensor]) -> Any:
        with torch.no_grad():
            return tree_unflatten(module.forward(*tensors), tree)

    return outputs, replay


class _Tape(TorchDispatchMode):
    """Writes every operation down as it is called."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self._graph = fx.Graph()
        # Kept alive: a tensor is known by its id.
        self._tensors: list[Tensor] = []
        self._nodes: dict[int, fx.Node] = {}
        # The memory of what nothing may be written to.
        self._kept = {_storage(each) for each in inputs}
        for i, tensor in enumerate(inputs):
            self._name(tensor, self._graph.placeholder(f"input_{i}"))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if any(tag in func.tags for tag in _BY_VALUE):
            raise NotReplayableError(f"{func} is not the same each time")
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.is_write and _storage(value) in self._kept:
                raise NotReplayableError(f"{func} changes a tensor that is read elsewhere")
        result = func(*args, **(kwargs or {}))
        if not isinstance(result, Tensor | list | tuple):
            if not any(isinstance(each, Tensor) for each in tree_leaves((args, kwargs))):
                return result  # of dtypes and numbers, such as a common dtype: the same each time
            raise NotReplayableError(f"{func} returns no tensor, by which may be decided")
        if isinstance(result, Tensor) and _is_identity(func, args, result):
            self._name(result, self._node(args[0]))
            if _storage(result) != _storage(args[0]):  # two tensors are one in the replay
                self._kept |= {_storage(result), _storage(args[0])}
            return result
        given = tree_map_only(Tensor, self._node, (args, kwargs or {}))
        node = self._graph.call_function(func, *given)
        if isinstance(result, Tensor):
            self._name(result, node)
        else:
            for i, each in enumerate(result):
                if isinstance(each, Tensor):
                    self._name(each, self._graph.call_function(operator.getitem, (node, i)))
        return result

    def finish(self, outputs: Sequence[Tensor]) -> fx.GraphModule:
        """Return a module of the operations that ``outputs`` need."""
        self._graph.output(tuple(self._node(each) for each in outputs))
        self._graph.eliminate_dead_code()
        return fx.GraphModule(torch.nn.Module(), self._graph)

    def _name(self, tensor: Tensor, node: fx.Node) -> None:
        self._tensors.append(tensor)
        self._nodes[id(tensor)] = node

    def _node(self, tensor: Tensor) -> fx.Node:
        if id(tensor) not in self._nodes:
            raise NotReplayableError("a tensor is read that is no input")
        return self._nodes[id(tensor)]


def _is_identity(func: Any, args: tuple[Any, ...], result: Tensor) -> bool:
    """Say whether an operation returns the numbers that it is given, in the same shape."""
    if not (args and isinstance(args[0], Tensor)):
        return False
    if args[0].shape != result.shape or args[0].dtype != result.dtype:
        return False
    if func.overloadpacket in _SAME_VALUES:
        return args[0].stride() == result.stride()
    return func.overloadpacket is _aten.mul and not isinstance(args[1], Tensor) and args[1] == 1


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
