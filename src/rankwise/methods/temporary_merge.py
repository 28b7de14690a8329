"""Adapters merged into the weights while text is generated, and the weights put back bit for bit.

A generated token costs one pass over few inputs, where an unmerged adapter's launches are most of
the time. PEFT's ``unmerge_adapter`` subtracts what was added and leaves a rounding error; here the
weights are kept in main memory meanwhile, so that a GPU holds no second copy of them.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rankwise.core.autocast import without_autocast
from rankwise.core.errors import ModelError
from rankwise.core.modules import parameter_uses
from rankwise.core.undoing import undone
from rankwise.methods.adapters.bridge import factors
from rankwise.methods.adapters.quantised import backend_of
from rankwise.methods.adapters.stacks import adapted_parameter, adapted_parameter_name
from rankwise.methods.adapters.switching import active_adapter
from rankwise.methods.chain.layer import OpenedLayer

Saved = list[tuple[nn.Parameter, Tensor]]


@contextlib.contextmanager
def temporarily_merged(model: nn.Module) -> Iterator[bool]:
    """Merge the active adapters of ``model`` until exit, where all of them can be; yield whether.

    They cannot where a weight is quantised, sharded, offloaded or shared with another module, where
    a change is no product of two factors, or where a merged weight would not be finite: the model
    then acts as it is. An adapter that is merged already, or switched off, stays so.
    """
    layers = [each for each in model.modules() if isinstance(each, BaseTunerLayer)]
    uses = parameter_uses(model)
    if not layers or not all(_is_mergeable(layer, uses) for layer in layers):
        yield False
        return
    saved: Saved = []
    with undone(lambda: _put_back(saved)):
        is_merged = all(_merge(layer, saved) for layer in layers)
        if not is_merged:
            _put_back(saved)
            yield False
            return
        with active_adapter(model, None):
            yield True


@without_autocast()
@torch.no_grad()
def _merge(layer: BaseTunerLayer, saved: Saved) -> bool:
    """Add the changes of the active adapters; return whether the result is finite."""
    weight: Any = adapted_parameter(layer)
    changes = [layer.get_delta_weight(name).float() for name in _active(layer)]  # type: ignore
    if not changes:
        return True
    merged = (weight.data.float() + sum(changes)).to(weight.dtype)
    if not torch.isfinite(merged).all():
        return False
    saved.append((weight, weight.detach().to("cpu", copy=True)))
    weight.data.copy_(merged)
    return True


@torch.no_grad()
def _put_back(saved: Saved) -> None:
    while saved:
        weight, original = saved[-1]
        weight.data.copy_(original)
        saved.pop()


def _active(layer: BaseTunerLayer) -> list[str]:
    available = layer._get_available_adapters()
    return [name for name in layer.active_adapters if name in available]


def _is_mergeable(layer: BaseTunerLayer, uses: Counter[int]) -> bool:
    base: Any = layer.get_base_layer()
    weight: Any = getattr(base, adapted_parameter_name(layer), None)
    if layer.merged or layer.disable_adapters or isinstance(layer, OpenedLayer):
        return False
    if type(weight) is not nn.Parameter or type(weight.data) is not Tensor or weight.is_meta:
        return False
    if backend_of(base) is not None or not weight.is_floating_point() or uses[id(weight)] > 1:
        return False
    try:
        for name in _active(layer):
            factors(layer, name)
    except ModelError:
        return False
    return True
