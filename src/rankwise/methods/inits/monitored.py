"""Which pre-activations of a model ABM-LoRA monitors, and how it weighs them.

The boundaries of a network lie where the input of an MLP's activation changes sign. They are found
on any architecture by the *type* of the activation modules; what is monitored is each call's
input. Where a model computes activations without a module, or other layers are meant, the user
names the modules whose *output* is the pre-activation (T5's ``wi``).

The last blocks of each stack are monitored. A stack is the outermost ``ModuleList`` that holds a
module; in a model without any, all activations are one stack. Layers are weighed inside their own
stack, the l-th of its L monitored ones by ((l+1)/L)^power, as in the released code, so an encoder
and a decoder of different depths do not get each other's weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from torch import Tensor, nn
from transformers.activations import ACT2CLS

from rankwise.capture.activations import Side, capture_activations, list_calls
from rankwise.core.errors import DataError, ModelError, SettingsError, nearest_names
from rankwise.core.labels import IGNORED_LABEL
from rankwise.functional.boundary import boundary_layer_weights

# Activations that switch a neuron on and off at zero. Of those that Transformers offers under a
# name the rest are smooth through zero, or no activation at all.
_NO_SWITCH = {"laplace", "linear", "sigmoid", "sqrtsoftplus", "tanh"}
_SWITCHES = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    *{
        entry[0] if isinstance(entry, tuple) else entry
        for name, entry in ACT2CLS.items()
        if name not in _NO_SWITCH
    },
)


@dataclass(frozen=True)
class Call:
    """One monitored call: its module, its number among all calls, its weight and its side."""

    name: str
    number: int
    weight: float
    is_in_decoder: bool


@dataclass(frozen=True)
class Monitor:
    """The calls of a model that are monitored, in the order of the forward pass."""

    model: nn.Module
    names: tuple[str, ...]
    side: Side
    calls: tuple[Call, ...]

    def activations(self, forward: Callable[[], object]) -> list[Tensor]:
        """Run ``forward`` up to the last monitored call and return the pre-activation of each."""
        # Looked up now: a reference that is loaded wraps layers for a moment.
        modules = {name: self.model.get_submodule(name) for name in self.names}
        numbers = [call.number for call in self.calls]
        return capture_activations(forward, modules, side=self.side, calls=numbers)

    def masks(self, batch: Any, activations: Sequence[Tensor]) -> list[Tensor | None]:
        """Return a boolean tensor a call, shaped as its positions, True where they count.

        Positions count where ``attention_mask`` is not 0, in a decoder beside an encoder where
        ``decoder_attention_mask`` is not 0 or else where ``labels`` are not -100. Without any of
        these all count (None).

        Raises:
            DataError: A mask does not have the shape of the positions.
        """
        return [
            _mask(call, batch, each) for call, each in zip(self.calls, activations, strict=True)
        ]


def find_monitored(
    model: nn.Module,
    forward: Callable[[], object],
    *,
    layers: Sequence[str] | None,
    last: int | None,
    power: float,
) -> Monitor:
    """Find the calls to monitor by running ``forward`` once to its end.

    Args:
        model: The model; an adapter's wrapper does not count in names.
        forward: Runs ``model`` on one batch.
        layers: Names of modules whose output is monitored, all of them; None looks for activations.
        last: Calls of each stack that are monitored, from its end: one a block, as a rule. None is
            half of them, rounded up.
        power: Of the weights ((l+1)/L)^power.

    Raises:
        ModelError: No layer is found, or a named one is unknown or not called.
        SettingsError: ``last`` is more than the blocks of a stack.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    modules = _activation_modules(base) if layers is None else _named_modules(base, layers)
    side: Side = "input" if layers is None else "output"
    names = list_calls(forward, modules, side=side)
    _check_called(names, modules if layers is not None else {})
    decoder = _decoder_modules(base)
    calls = []
    for stack, numbers in _stacks(base, names).items():
        if layers is None:
            numbers = numbers[-_count_kept(stack, len(numbers), last) :]
        weights = boundary_layer_weights(len(numbers), power)
        for number, weight in zip(numbers, weights, strict=True):
            name = names[number]
            calls.append(Call(name, number, weight, modules[name] in decoder))
    calls.sort(key=lambda call: call.number)
    return Monitor(base, tuple(modules), side, tuple(calls))


def _activation_modules(model: nn.Module) -> dict[str, nn.Module]:
    found = {name: each for name, each in model.named_modules() if isinstance(each, _SWITCHES)}
    # Beside stacks of blocks, an activation outside of them belongs to a pooler or a head.
    in_blocks = {name: each for name, each in found.items() if _stack(model, name) is not None}
    return in_blocks or found


def _named_modules(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    known = dict(model.named_modules())
    for name in names:
        if name not in known:
            raise ModelError(
                f"layers: {type(model).__name__} has no module {name!r}; "
                f"{nearest_names(name, known)}"
            )
    return {name: known[name] for name in names}


def _check_called(names: list[str], expected: Mapping[str, nn.Module]) -> None:
    missing = [name for name in expected if name not in names]
    if missing:
        raise ModelError(f"layers: {missing} take no part in the forward pass: leave them out")
    if not names:
        raise ModelError(
            "no activation module was found in a forward pass: pass layers=[...], the names of the "
            "modules whose outputs go into the activation functions"
        )


def _stacks(model: nn.Module, names: list[str]) -> dict[str, list[int]]:
    """Return the numbers of the calls of each stack."""
    stacks: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        stacks[_stack(model, name) or "the model"].append(number)
    return stacks


def _stack(model: nn.Module, name: str) -> str | None:
    """Return the name of the outermost ``ModuleList`` that holds the module, None without one."""
    module, path = model, []
    for part in name.split("."):
        if isinstance(module, nn.ModuleList):
            return ".".join(path)
        module = module.get_submodule(part)
        path.append(part)
    return None


def _count_kept(stack: str, depth: int, last: int | None) -> int:
    if last is None:
        return (depth + 1) // 2
    if last > depth:
        raise SettingsError(
            f"last must be between 1 and {depth} (the blocks of {stack}), got {last}"
        )
    return last


def _decoder_modules(model: nn.Module) -> set[nn.Module]:
    """Return the modules that see the target positions of an encoder-decoder model."""
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return set()
    return set(model.get_decoder().modules())  # type: ignore[operator]


def _mask(call: Call, batch: Any, activation: Tensor) -> Tensor | None:
    mask = _position_mask(batch, call.is_in_decoder) if isinstance(batch, Mapping) else None
    if mask is None:
        return None
    positions = activation.shape[:-1]
    numbers = mask.numel()
    # A model may put its rows one behind another, or those of pairs, or all positions.
    flattened = ((numbers,), (numbers // mask.shape[-1], mask.shape[-1]))
    if mask.shape != positions and tuple(positions) not in flattened:
        raise DataError(
            f"{call.name} has positions of shape {tuple(positions)}, but their mask has shape "
            f"{tuple(mask.shape)}: pass a mask of that shape, or name other layers"
        )
    return mask.reshape(positions)


def _position_mask(batch: Mapping[str, Any], is_in_decoder: bool) -> Tensor | None:
    key = "decoder_attention_mask" if is_in_decoder else "attention_mask"
    if batch.get(key) is not None:
        return batch[key] != 0
    if is_in_decoder and batch.get("labels") is not None:
        return batch["labels"] != IGNORED_LABEL
    return None
