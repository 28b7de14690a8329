"""What a fold asks of an optimizer: to train the chain's own factors, and to forget them or turn.

Moments are kept per parameter in ``optimizer.state``. A fold takes those of the trained factors
out, or puts them there as the next block has them. That reaches an optimizer of PyTorch's kind and
the wrappers that hand its state on, such as Accelerate's. Refused by name is what a fold cannot
reach: copies of the factors that an optimizer trains in their place, averages that it carries over,
and wrappers with memories of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import LBFGS, Optimizer

from rankwise.core.errors import ChainError
from rankwise.methods.adapters.bridge import is_sharded
from rankwise.methods.chain.layer import Turn

# Keeps nothing beside the state of the optimizer inside, though it has a place for it.
_TRANSPARENT = "ZeroRedundancyOptimizer"
_ZERO = (
    "train without its float32 copies: DDP or FSDP2 in the place of ZeRO, whose savings are small "
    "for an adapter"
)
# What the optimizers of torch keep of a parameter: means of its gradients, and of their squares.
_MEANS = ("exp_avg", "momentum_buffer")
_SQUARES = ("exp_avg_sq", "max_exp_avg_sq")
_NOT_CARRIED = (
    "use moments 'reset' or 'kept', or AdamW, SGD or Muon of torch.optim in an unsharded model"
)
_LIBRARIES = {
    "deepspeed": _ZERO,
    "apex": "use apex's opt_level O0 or O1, or torch.autocast, with factors in float32",
    "megatron": "use an optimizer of torch.optim on factors in float32",
}


def check_optimizer(
    optimizer: Any, *, trained: Sequence[nn.Parameter], frozen: Sequence[nn.Parameter]
) -> None:
    """Refuse an optimizer that trains other tensors than ``trained``, or that cannot forget them.

    Raises:
        ChainError: It is no optimizer; it lacks a trained factor or holds a frozen one; it trains
            copies of the factors; it averages; or it wraps another in a way that is not known.
    """
    groups = getattr(optimizer, "param_groups", None)
    if not isinstance(groups, list):
        raise ChainError(
            f"a fold takes the optimizer that trains the factors, got {_name(optimizer)}"
        )
    held = [parameter for group in groups for parameter in group["params"]]
    ids = {id(parameter) for parameter in held}
    if any(id(parameter) not in ids for parameter in trained):
        _refuse_stranger(optimizer, held, trained)
    if any(id(parameter) in ids for parameter in frozen):
        raise ChainError(
            f"the optimizer {_name(optimizer)} holds frozen sketches of the chain: build it after "
            "the chain, from the parameters that require a gradient"
        )
    for each in _layers_of(optimizer):
        _refuse_averaging(each)


def match_moments(optimizer: Any, parameters: Iterable[nn.Parameter]) -> None:
    """Give what an optimizer keeps of parameters their dtype, as its ``load_state_dict`` does."""
    for each in _layers_of(optimizer):
        for parameter in parameters:
            moments = each.state.get(parameter, {})
            for name, value in moments.items():
                if isinstance(value, torch.Tensor) and value.is_floating_point() and name != "step":
                    moments[name] = value.to(parameter.dtype)


class Moments:
    """What an optimizer remembers of some parameters, to be renewed and, if need be, put back.

    They are forgotten, but for those of parameters that turn: these are carried on.
    """

    def __init__(
        self,
        optimizer: Any,
        parameters: Sequence[nn.Parameter],
        turns: Mapping[nn.Parameter, Turn] | None = None,
    ) -> None:
        """Find the moments, and what becomes of them; no optimizer has none.

        Raises:
            ChainError: The optimizer wraps another in a way that is not known, or keeps of a
                parameter that turns what is neither a mean of gradients nor of their squares.
        """
        layers = [] if optimizer is None else list(_layers_of(optimizer))
        # One history of all its parameters together, kept at the first.
        of_all = any(isinstance(each, LBFGS) for each in layers)
        self._found: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        for each in layers:
            kept = each.state
            keys = list(kept) if of_all else [p for p in parameters if p in kept]
            self._found.append((kept, {key: kept[key] for key in keys}))
        turns = turns or {}
        if turns and of_all:
            raise ChainError(f"the history of {_name(optimizer)} cannot be carried: {_NOT_CARRIED}")
        self._after = [
            {
                key: _carried(state, turns[key], optimizer)
                for key, state in found.items()
                if key in turns
            }
            for _, found in self._found
        ]

    def renew(self) -> None:
        """Take them out, and put in what is carried."""
        for (kept, moments), after in zip(self._found, self._after, strict=True):
            for key in moments:
                kept.pop(key, None)
            kept.update(after)

    def put_back(self) -> None:
        """Put them in again."""
        for kept, moments in self._found:
            kept.update(moments)


def _carried(state: Mapping[str, Any], turn: Turn, optimizer: Any) -> dict[str, Any]:
    """Return what is kept of a parameter as the next block has it; counts of steps go on."""
    carried = {}
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or name == "step":
            carried[name] = value
            continue
        if name not in (*_MEANS, *_SQUARES) or is_sharded(value) or not value.is_floating_point():
            raise ChainError(
                f"{_name(optimizer)} keeps {name!r} of a factor, which cannot be carried: "
                f"{_NOT_CARRIED}"
            )
        carried[name] = turn.of(value, is_squared=name in _SQUARES)
    return carried


def _layers_of(optimizer: Any) -> Iterator[Any]:
    """Yield an optimizer and, if it is a wrapper, those inside.

    Raises:
        ChainError: It wraps another and keeps a state of its own beside.
    """
    yield optimizer
    inside = {
        name: value
        for name, value in vars(optimizer).items()
        if isinstance(value, Optimizer) and value is not optimizer
    }
    for attribute, inner in inside.items():
        if optimizer.state is not inner.state and type(optimizer).__name__ != _TRANSPARENT:
            raise ChainError(
                f"{_name(optimizer)} wraps {_name(inner)} and remembers parameters beside it, "
                f"which a fold cannot reset: train with the one inside (`optimizer.{attribute}`)"
            )
        yield from _layers_of(inner)


def _refuse_stranger(
    optimizer: Any, held: Sequence[torch.Tensor], trained: Sequence[nn.Parameter]
) -> None:
    """Say why an optimizer does not hold the trained factors."""
    name = _name(optimizer)
    if (library := _library_with_copies(optimizer)) is not None:
        raise ChainError(
            f"{name} trains float32 copies of the chain's factors, which a fold cannot reach, so "
            f"that they would overwrite the next block: {_LIBRARIES[library]}"
        )
    shapes = Counter(tuple(each.shape) for each in trained)
    if shapes <= Counter(tuple(each.shape) for each in held):
        raise ChainError(
            f"the optimizer {name} lacks trained factors of the chain and holds others of their "
            "shapes. If it was built before the chain or for another model, build it after the "
            "chain, from the parameters that require a gradient; if these are float32 copies, as "
            f"with DeepSpeed ZeRO, apex O2 or Megatron, {_ZERO}"
        )
    raise ChainError(
        f"the optimizer {name} lacks trained factors of the chain: build it after the chain, from "
        "the parameters that require a gradient"
    )


def _refuse_averaging(optimizer: Any) -> None:
    """Refuse an optimizer whose parameters are not, while it trains, those that are evaluated."""
    is_averaging = _package(optimizer) == "schedulefree" or hasattr(optimizer, "train_mode")
    if is_averaging or any("train_mode" in group for group in optimizer.param_groups):
        raise ChainError(
            f"{_name(optimizer)} trains another point than the averaged one that is evaluated, and "
            "carries its average over from block to block: use an optimizer without averaging, "
            "such as torch.optim.AdamW"
        )


def _library_with_copies(optimizer: Any) -> str | None:
    """Return the library whose own kind of optimizer this is, or wraps."""
    if hasattr(optimizer, "_amp_stash"):
        return "apex"
    for each in (optimizer, getattr(optimizer, "optimizer", None)):
        # Their own kinds are none of torch's; what is, such as apex' FusedAdam, has no copies.
        if not isinstance(each, Optimizer) and _package(each) in _LIBRARIES:
            return _package(each)
    return None


def _package(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def _name(value: object) -> str:
    """Return the name of a class, with its package unless that is torch."""
    name = type(value).__name__
    return name if _package(value) == "torch" else f"{_package(value)}.{name}"
