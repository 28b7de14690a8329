"""Frozen factors that are computed when their values are first asked for.

LoRA-XS begins at the decomposition of each weight, which costs about as much as a training step,
and an init that writes the factors would throw it away. So attaching an adapter makes room alone.
Until then each factor is an :class:`Undrawn` parameter, as PyTorch's lazy modules
have uninitialised ones: its shape, dtype and device are known, any other question is answered after
it was computed, and what overwrites it ends the wait.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import UserDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

_DRAWING = threading.RLock()  # a thread that comes while another draws waits for the values
_ATTRIBUTES = "shape ndim dtype device layout is_meta is_cuda is_cpu is_mps is_xpu is_sparse"
_ATTRIBUTES += " is_leaf is_quantized requires_grad grad grad_fn nbytes itemsize _version"
_ATTRIBUTES += " _backward_hooks"
_METHODS = "size dim numel nelement element_size stride is_contiguous is_floating_point is_complex"
_METHODS += " is_inference requires_grad_ __len__"
_OF_NO_VALUES = {
    *(getattr(Tensor, name).__get__ for name in _ATTRIBUTES.split()),
    *(getattr(Tensor, name) for name in _METHODS.split()),
    *(Tensor.requires_grad.__set__, Tensor.grad.__set__),  # type: ignore[attr-defined]
}


class Undrawn(nn.Parameter):
    """A parameter whose values are not computed yet; then it becomes a plain one."""

    start: Start

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Compute what is asked for, and then do what is asked."""
        overwritten = args[0] if func is Tensor.copy_ else None
        if func not in _OF_NO_VALUES:
            for each in tree_leaves((args, kwargs)):
                if type(each) is Undrawn and each is not overwritten:
                    each.draw()
        # A plain parameter's way, in one call: an exception between two lines of a `with` of ours
        # would leave overriding off for all that follows.
        result = super().__torch_function__(func, types, args, kwargs or {})
        if type(overwritten) is Undrawn:
            overwritten.settle()
        return result

    def draw(self) -> None:
        """Have the values computed."""
        with _DRAWING:
            if type(self) is Undrawn:  # and no other thread was here before
                self.start.draw()

    def settle(self) -> None:
        """Become a plain parameter."""
        self.__class__ = nn.Parameter  # type: ignore[assignment]
        del self.start

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Parameter:
        self.draw()
        return nn.Parameter.__deepcopy__(self, memo)  # type: ignore[return-value]

    def __reduce_ex__(self, protocol: Any) -> Any:
        self.draw()
        return nn.Parameter.__reduce_ex__(self, protocol)


class Start:
    """How frozen factors of an adapter begin, which are computed together.

    Args:
        layer: What ``compute`` is given; it is not kept alive.
        factors: Their parameters.
        compute: Returns their values.
    """

    def __init__(
        self,
        layer: nn.Module,
        factors: Sequence[nn.Parameter],
        compute: Callable[[Any], Sequence[Tensor]],
    ) -> None:
        self._layer, self._factors, self._compute = weakref.ref(layer), list(factors), compute
        for factor in self._factors:
            self.put_off(factor)

    @property
    def is_to_be_drawn(self) -> bool:
        """Whether some of the factors wait for their values."""
        return any(type(factor) is Undrawn for factor in self._factors)

    def put_off(self, factor: nn.Parameter) -> None:
        """Let one of the factors wait, again."""
        factor.__class__ = Undrawn
        factor.start = self  # type: ignore[attr-defined]

    def put_off_in(self, place: nn.Module, act: Callable[[], object]) -> None:
        """Do what gives the factor of a module another place or dtype, and let it wait there."""
        with _DRAWING:
            before: Any = place.weight
            before.settle()  # its zeros are moved
            try:
                act()
            finally:
                after: Any = place.weight
                self._factors = [after if each is before else each for each in self._factors]
                if not after.is_meta:  # where nothing can be computed
                    self.put_off(after)

    def draw(self) -> None:
        """Compute the values of those that wait; not as a part of what is traced or recorded."""
        with _DRAWING:
            layer = self._layer()
            assert layer is not None, "the factors of a layer that is gone"
            if not self.is_to_be_drawn:
                return
            with _apart():
                for factor, value in zip(self._factors, self._compute(layer), strict=True):
                    if type(factor) is Undrawn:
                        factor.copy_(value)
            for factor in self._factors:
                if type(factor) is Undrawn:
                    factor.settle()


class Starts(UserDict[str, Start]):
    """The starts of a layer's adapters, by name.

    No dict: what gives a model back as it was must not bring back what was drawn or overwritten.
    """

    def __init__(self) -> None:
        super().__init__()
        # No number: torch 2.6 compiles one that differs from layer to layer as a variable.
        self._key = str(id(self))
        _ALL[self._key] = self

    def __reduce__(self) -> tuple[type[Starts], tuple[()]]:
        # A copy is found by a key of its own; a layer that is copied has drawn all before.
        return Starts, ()

    def draw(self, adapter_name: str) -> None:
        """See that the factors of an adapter have their values."""
        if torch.compiler.is_compiling():
            _draw_beside_the_trace(self._key, adapter_name)
        elif (start := self.data.get(adapter_name)) is not None and start.is_to_be_drawn:
            start.draw()

    def draw_all(self) -> None:
        """See that the factors of all adapters have their values."""
        for adapter_name in self.data:
            self.draw(adapter_name)


_ALL: weakref.WeakValueDictionary[str, Starts] = weakref.WeakValueDictionary()


@torch.compiler.assume_constant_result
def _draw_beside_the_trace(key: str, adapter_name: str) -> bool:
    if (start := _ALL[key].data.get(adapter_name)) is not None:
        start.draw()
    return True


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Compute plainly, whatever transform, mode or tracer is at work."""
    tracing: Any = torch._C._get_tracing_state()
    set_tracing_state: Any = torch._C._set_tracing_state  # type: ignore[attr-defined]
    set_tracing_state(None)
    try:
        with (
            temporarily_clear_interpreter_stack(),
            _disable_current_modes(),
            torch._C.DisableTorchFunction(),
            torch.inference_mode(False),
            torch.no_grad(),
        ):
            yield
    finally:
        set_tracing_state(tracing)
