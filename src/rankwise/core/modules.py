"""Looking modules up, and lending a model for a moment so that it comes back as it was."""

from __future__ import annotations

import contextlib
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from rankwise.core.errors import ModelError
from rankwise.core.undoing import undone

_CONTAINERS = (dict, OrderedDict, list, set)
_NOTHING: dict[str, Any] = {}


@contextlib.contextmanager
def preserved_state(model: nn.Module) -> Iterator[None]:
    """Give ``model`` back as it was, whatever happens inside, also an exception.

    That is: its modules and all that they hold (parameters, buffers, hooks, modes, methods put in
    the place of their own, numbers), the values of buffers, ``requires_grad`` and ``.grad`` of its
    parameters, the global random states and whether gradients are on. The *values* of parameters
    are the business of those who write them, and gradients of what lies outside of the model of
    those who run it.
    """
    before = _State(model)
    with undone(before.restore), random_state_kept():
        before.drop_gradients()
        yield


@contextlib.contextmanager
def preserved_structure(model: nn.Module) -> Iterator[None]:
    """Give the modules of ``model`` back with all that they held; no value of a tensor is kept."""
    with undone(Structure(model).restore):
        yield


@contextlib.contextmanager
def in_memory(module: nn.Module) -> Iterator[None]:
    """Bring in the weights of a module that Accelerate's hooks keep elsewhere, meanwhile."""
    hook: Any = getattr(module, "_hf_hook", None)
    if hook is None or not any(p.is_meta for p in module.parameters(recurse=False)):
        yield
        return
    with undone(lambda: hook.post_forward(module, None)):
        hook.pre_forward(module)
        yield


@contextlib.contextmanager
def replaced(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Put copies in the place of some parameters of ``model`` meanwhile, and yield the copies.

    What is done to these, by an optimizer too, calls no hook of the parameters and changes none.
    """
    copies = [nn.Parameter(p.detach().clone(), requires_grad=p.requires_grad) for p in parameters]
    copy_of = {id(p): copy for p, copy in zip(parameters, copies, strict=True)}
    with preserved_structure(model):
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if id(parameter) in copy_of:
                    module._parameters[name] = copy_of[id(parameter)]
        yield copies


class Structure:
    """What the modules of a model hold: attributes, and the entries of those that are containers.

    Values of tensors are not kept.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = list(model.modules())
        self._held = [(module, dict(vars(module)), _contents(module)) for module in self.modules]

    def restore(self) -> None:
        """Put back what is no longer there, and take out what has come since."""
        for module, attributes, contents in self._held:
            own = vars(module)
            for name in [name for name in own if name not in attributes]:
                del own[name]
            own.update(attributes)
            for name, container in attributes.items():
                # Nearly all are empty, as they were.
                if type(container) not in _CONTAINERS or not (container or name in contents):
                    continue
                content = contents.get(name, _NOTHING)
                # Sharded parameters take turns with whole ones, as their owner sees fit.
                if name != "_parameters" or not _has_sharded(container, content):
                    _refill(container, content)


class _State:
    """All of a model that :func:`preserved_state` gives back."""

    def __init__(self, model: nn.Module) -> None:
        self._structure = Structure(model)
        modules = self._structure.modules  # looked for once: a walk through a large model is slow
        parameters = _each_once(modules, "_parameters")
        self._parameters = [(p, p.requires_grad, p.grad) for p in parameters]
        self._buffers = [(b, b.detach().clone()) for b in _buffers(modules) if not b.is_meta]
        self._has_gradients = torch.is_grad_enabled()

    def drop_gradients(self) -> None:
        """Take the gradients away, so that a backward pass does not add to the caller's tensors."""
        for parameter, _, _ in self._parameters:
            parameter.grad = None

    def restore(self) -> None:
        """Put all of it back."""
        self._structure.restore()
        for parameter, requires_grad, gradient in self._parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = gradient
        for buffer, value in self._buffers:
            _put_back(buffer, value)
        torch.set_grad_enabled(self._has_gradients)


@contextlib.contextmanager
def gradients_on() -> Iterator[None]:
    """Record what is computed for gradients, also below ``no_grad`` and ``inference_mode``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def check_usable(model: nn.Module) -> None:
    """Refuse parameters through which no gradient can be taken.

    Raises:
        ModelError: A parameter has no shape before a first forward pass, or was made in
            ``torch.inference_mode``.
    """
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ModelError(
                f"{name} has no shape yet (a lazy module): run the model once on a batch, then "
                "attach the adapter"
            )
        if parameter.is_inference():
            raise ModelError(
                f"{name} was made inside torch.inference_mode(), where no graph may hold it: build "
                "the model and attach the adapter outside"
            )


@contextlib.contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into eval mode, and on exit each module back into the mode that it was in."""
    model_is_training = model.training
    modes = [(module, module.training) for module in model.modules()]

    def restore() -> None:
        model.train(model_is_training)  # which modules may override
        for module, is_training in modes:
            module.training = is_training

    with undone(restore):
        model.eval()
        yield


def parameter_uses(model: nn.Module) -> Counter[int]:
    """Count, by ``id``, under how many names ``model`` holds each of its parameters."""
    return Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter of ``model`` that is not offloaded.

    Of a model that is offloaded as a whole it is the device where Accelerate's hooks let it run.
    """
    for parameter in model.parameters():
        if not parameter.is_meta:
            return parameter.device
    for module in model.modules():
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(model.parameters()).device


def numbers(tensors: Sequence[Tensor]) -> list[float]:
    """Return the values of tensors (), waiting once for each device and dtype."""
    places = [(each.device, each.dtype) for each in tensors]
    found = {
        place: iter(torch.stack([t for t, at in zip(tensors, places) if at == place]).tolist())
        for place in dict.fromkeys(places)
    }
    return [next(found[place]) for place in places]


def _buffers(modules: Sequence[nn.Module]) -> Iterator[Tensor]:
    # Where PEFT keeps what is frozen of an adapter, a factor and no state of the model.
    return _each_once([m for m in modules if type(m).__name__ != "BufferDict"], "_buffers")


def _each_once(modules: Sequence[nn.Module], kind: str) -> Iterator[Any]:
    """Yield each tensor of a kind that modules hold themselves once."""
    seen: set[int] = set()
    for module in modules:
        for tensor in getattr(module, kind).values():
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Put the global random states back."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        yield


def _contents(module: nn.Module) -> dict[str, Any]:
    """Return copies of the attributes that are plain containers and not empty, by name."""
    return {
        name: value.copy()
        for name, value in vars(module).items()
        if type(value) in _CONTAINERS and value
    }


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, dict):
        is_same = len(container) == len(content) and all(
            key is other and container[key] is content[other]
            for key, other in zip(container, content, strict=True)
        )
    else:
        is_same = isinstance(container, list) and [*map(id, container)] == [*map(id, content)]
    if not is_same:
        container.clear()
        (container.extend if isinstance(container, list) else container.update)(content)


def _has_sharded(*containers: dict[str, Any]) -> bool:
    return any(
        hasattr(parameter, "full_tensor") for each in containers for parameter in each.values()
    )


def _put_back(buffer: Tensor, value: Tensor) -> None:
    """Give a buffer its value back; one that kept it is not touched."""
    if buffer.shape == value.shape and torch.equal(buffer, value):
        return
    with torch.inference_mode(buffer.is_inference()), torch.no_grad():
        if buffer.shape != value.shape:
            buffer.resize_(value.shape)
        buffer.copy_(value)
