"""Where W₀ waits between folds, and how it comes to where a layer computes.

On a CPU it lies beside the weights. Beside an accelerator it waits in its own dtype: in pinned
memory of the CPU, from where it is copied on a stream of its own while the layer before is summed;
or on the accelerator, from where nothing has to be fetched. The finished blocks wait with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from rankwise.core.autocast import without_autocast
from rankwise.core.errors import SettingsError, nearest_names
from rankwise.core.modules import numbers
from rankwise.methods.adapters.bridge import is_sharded
from rankwise.methods.adapters.stacks import adapted_parameter
from rankwise.methods.chain.layer import Factors, OpenedLayer

BaseDevice = Literal["auto", "cpu", "device"]

# Of the memory that is free once a first block has been trained, so that a step's peak is known.
_SHARE_OF_ROOM = 0.5
_PLACES = 3  # for weights on their way


def check_base_device(value: str) -> None:
    """Refuse an unknown place.

    Raises:
        SettingsError: ``value`` is none of ``BaseDevice``.
    """
    known = get_args(BaseDevice)
    if value not in known:
        raise SettingsError(f"no base_device {value!r}; {nearest_names(str(value), known)}")


def waiting_copy(weight: Tensor, place: BaseDevice) -> Tensor:
    """Return the copy of W₀ that a chain begins with; ``auto`` is decided at its first fold."""
    if place == "device":
        return weight.clone()
    pinned = torch.cuda.is_available() and not weight.is_meta
    return torch.empty_like(weight, device="cpu", pin_memory=pinned).copy_(weight)


def settle(layers: Iterable[OpenedLayer], place: BaseDevice) -> None:
    """Move W₀ and the blocks to where the layers compute, if they are to wait there and can."""
    away = [each for each in layers if _is_away(each) and not is_sharded(adapted_parameter(each))]
    if place == "device" or (place == "auto" and _has_room(away)):
        for layer in away:
            layer.history.move(adapted_parameter(layer).device)


@without_autocast()
def with_open_block(layers: Mapping[str, OpenedLayer]) -> dict[str, list[Factors]]:
    """Return the blocks of all layers with a copy of the current one behind them.

    It is where the layer's history waits. Copies that leave an accelerator are waited for together.
    """
    leaving = {
        name: layer.checked_factors()
        for name, layer in layers.items()
        if layer.history.device.type == "cpu" and _first_part(layer).is_cuda
    }
    copies = iter(_copies_on_cpu([factor for both in leaving.values() for factor in both]))
    return {
        name: [
            *layer.history.blocks,
            (next(copies), next(copies)) if name in leaving else layer.open_block(),
        ]
        for name, layer in layers.items()
    }


def _first_part(layer: OpenedLayer) -> Tensor:
    return next(iter(layer.open_parts().values()))


def _copies_on_cpu(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copy tensors from accelerators by way of pinned memory, which the next fold takes again."""
    # On the CPU also where another device is the default.
    pinned = [torch.empty_like(each, device="cpu", pin_memory=True) for each in tensors]
    for copy, each in zip(pinned, tensors, strict=True):
        copy.copy_(each, non_blocking=True)
    for device in {each.device for each in tensors}:
        torch.cuda.current_stream(device).synchronize()
    return [torch.empty_like(each, pin_memory=False).copy_(each) for each in pinned]


def fetched(layers: Mapping[str, OpenedLayer]) -> Iterator[tuple[str, Tensor | None]]:
    """Yield each layer's name and, if it had to be fetched, its W₀; the next one's is on its way.

    What W₀ is wanted for has to be asked of the device before the next layer is taken.
    """
    names, lanes = list(layers), _lanes(layers.values())
    coming: dict[str, Tensor] = {}
    try:
        for place, name in enumerate(names):
            for each in names[place : place + _PLACES - 1] if lanes else ():
                lane = lanes.get(adapted_parameter(layers[each]).device)
                if lane is not None and each not in coming and _is_pinned(layers[each]):
                    coming[each] = lane.send_for(cast(Tensor, layers[each].history.base))
            if name not in coming:
                yield name, None
                continue
            lane = lanes[adapted_parameter(layers[name]).device]
            lane.wait_for_next()
            yield name, coming[name]
            lane.free_oldest()
    finally:
        for lane in lanes.values():
            lane.close()


@without_autocast()
def write_histories(
    layers: Mapping[str, OpenedLayer], blocks: Mapping[str, list[Factors]]
) -> Callable[[], str | None]:
    """Give each layer its history; the host waits for no sum but where weights are on their way.

    Returns:
        What waits for all of them and says which layers are not finite with their history, if any.
    """
    for name, base in fetched(layers):
        layers[name].set_blocks(blocks[name], base)
    return partial(_broken, layers)


def _broken(layers: Mapping[str, OpenedLayer]) -> str | None:
    sizes = numbers([layer.history.largest for layer in layers.values()])
    broken = [name for name, size in zip(layers, sizes) if not isfinite(size)]
    if not broken:
        return None
    weight = adapted_parameter(layers[broken[0]])
    return f"not finite, or not beside the weight in its {weight.dtype}, in {', '.join(broken)}"


class _Lane:
    """A few places on a device, and a stream that fills some while one is in use."""

    def __init__(self, device: torch.device, size: int) -> None:
        self._device = device
        self._places = [torch.empty(size, dtype=torch.uint8, device=device) for _ in range(_PLACES)]
        self._freed: list[torch.Event | None] = [None] * _PLACES
        self._arrivals: list[torch.Event] = []
        self._sent = self._used = 0
        self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(self._present)

    def send_for(self, base: Tensor) -> Tensor:
        """Begin to copy ``base`` (pinned) into the next place and return it there."""
        place = self._sent % _PLACES
        if (freed := self._freed[place]) is not None:
            # The host waits, too: further ahead it would only pile up pinned memory.
            freed.synchronize()
        there = self._places[place][: base.nbytes].view(base.dtype).view(base.shape)
        with torch.cuda.stream(self._stream):
            there.copy_(base, non_blocking=True)
            self._arrivals.append(self._stream.record_event())
        self._sent += 1
        return there

    def wait_for_next(self) -> None:
        """Let what is asked of the device from now on wait for the oldest copy under way."""
        self._present.wait_event(self._arrivals.pop(0))  # type: ignore[arg-type]

    def free_oldest(self) -> None:
        """Let the place in use be filled again, once what has been asked of it is done."""
        self._freed[self._used % _PLACES] = self._present.record_event()
        self._used += 1

    def close(self) -> None:
        """Let the places outlast the copies into them."""
        self._present.wait_stream(self._stream)

    @property
    def _present(self) -> torch.cuda.Stream:
        return torch.cuda.current_stream(self._device)


def _lanes(layers: Iterable[OpenedLayer]) -> dict[torch.device, _Lane]:
    sizes: dict[torch.device, int] = {}
    for layer in layers:
        if _is_pinned(layer) and (device := adapted_parameter(layer).device).type == "cuda":
            sizes[device] = max(sizes.get(device, 0), cast(Tensor, layer.history.base).nbytes)
    return {device: _Lane(device, size) for device, size in sizes.items()}


def _is_away(layer: OpenedLayer) -> bool:
    base = layer.history.base
    return base is not None and base.device != adapted_parameter(layer).device


def _is_pinned(layer: OpenedLayer) -> bool:
    base = layer.history.base
    return base is not None and base.is_cpu and base.is_pinned() and base.is_contiguous()


def _has_room(layers: list[OpenedLayer]) -> bool:
    """Tell whether the devices have room for all that waits elsewhere."""
    needs: Counter[torch.device] = Counter()
    for layer in layers:
        needs[adapted_parameter(layer).device] += layer.history.nbytes
    return all(
        device.type == "cuda" and need <= _SHARE_OF_ROOM * torch.cuda.mem_get_info(device)[0]
        for device, need in needs.items()
    )
