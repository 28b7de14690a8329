"""A run without its data, its weights and a network: it builds, it counts, and says what it costs.

The architecture is built on the meta device from a configuration that ships, the adapter goes on
it, and a made-up row goes through both. What this cannot show is a score.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from rankwise.core.errors import ModelError
from rankwise.methods.adapters import bridge
from rankwise.tasks.splits import Rehearsal
from rankwise.training.adapter import attach_adapter
from rankwise.training.build import build_task
from rankwise.training.job import steps_of
from rankwise.training.loops.results import TrainedParameters, count_parameters
from rankwise.training.settings.adapters import PeftSettings
from rankwise.training.settings.method import MethodSettings
from rankwise.training.settings.run import RunSettings
from rankwise.training.settings.schedules import ScheduleSettings

ADAM_MOMENTS = 2  # for each number that trains
_SUFFIXES = {"K": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True)
class DryRun:
    """What a run would be.

    Attributes:
        parameters: What would train, adapter and head.
        weights: Numbers in the model, adapter and head included.
        published: The paper's count of the adapter, as it prints it; None if none is known.
        steps: Optimizer steps.
        state_bytes: Weights, fixed factors, gradients and moments, each in its dtype; activations
            come on top.
    """

    parameters: TrainedParameters
    weights: int
    published: str | None
    steps: int
    state_bytes: int

    @property
    def agrees(self) -> bool:
        """Whether the adapter's count is the published one, to the digits that are printed."""
        return self.published is None or is_rounded_to(self.parameters.adapter, self.published)


def dry_run(settings: RunSettings) -> DryRun:
    """Go through a run without its data and its weights.

    Raises:
        ModelError: No configuration of the model is at hand, or the made-up row gives no loss.
        SettingsError: A setting does not fit the architecture.
    """
    rehearsal, model = rehearsed_model(settings)
    with torch.no_grad():
        loss = model(**rehearsal.batch)["loss"]
    if loss is None or loss.shape != ():
        raise ModelError(f"the model returned no loss for a row, got {loss}")
    return _counted(settings, rehearsal, model)


def count_run(settings: RunSettings) -> DryRun:
    """Return what :func:`dry_run` counts, without going through a row.

    Raises:
        ModelError: No configuration of the model is at hand.
        SettingsError: A setting does not fit the architecture.
    """
    return _counted(settings, *rehearsed_model(settings))


def _counted(settings: RunSettings, rehearsal: Rehearsal, model: nn.Module) -> DryRun:
    parameters = count_parameters(model)
    weights = sum(parameter.numel() for parameter in model.parameters())
    return DryRun(
        parameters,
        weights,
        settings.method.published_parameters,
        steps_of(settings.training, rows=rehearsal.training_rows),
        _state_bytes(model),
    )


def _without_weights(method: MethodSettings) -> MethodSettings:
    """Leave out a start that PEFT takes from weights (PiSSA): it changes no count."""
    adapter = method.adapter
    if not isinstance(adapter, PeftSettings):
        return method
    options = {key: each for key, each in adapter.options.items() if key != "init_lora_weights"}
    return method.model_copy(update={"adapter": adapter.model_copy(update={"options": options})})


def rehearsed_model(settings: RunSettings) -> tuple[Rehearsal, nn.Module]:
    """Return the rehearsal of a run's task, and its model with the adapter, frozen as in training.

    Raises:
        ModelError: No configuration of the model is at hand.
        SettingsError: A setting does not fit the architecture.
    """
    task = build_task(settings)
    rehearsal = task.rehearse()
    method = _without_weights(settings.method)
    model = attach_adapter(rehearsal.model, method, task=task, seed=settings.seed)
    _freeze_sketches(model, settings.method.schedule)
    return rehearsal, model


def _state_bytes(model: nn.Module) -> int:
    """Count what lies in memory between two steps; a gradient has the dtype of its weight."""
    trained = sum(each.nbytes for each in model.parameters() if each.requires_grad)
    held = sum(each.nbytes for each in (*model.parameters(), *model.buffers()))
    return held + trained * (1 + ADAM_MOMENTS)


def _freeze_sketches(model: nn.Module, schedule: ScheduleSettings) -> None:
    """Freeze what a chain would, without the sketches themselves."""
    factor = {"left": "lora_B", "right": "lora_A"}.get(getattr(schedule, "side", ""))
    if factor is not None:
        for layer in bridge.adapted_layers(model, "default").values():
            bridge.freeze(layer, "default", [factor])


def is_rounded_to(count: int, printed: str) -> bool:
    """Say whether ``count``, rounded or cut to the digits of ``printed``, is ``printed``.

    >>> [is_rounded_to(55_296, printed) for printed in ("55.3K", "55.2K", "0.1M", "55.5K")]
    [True, True, True, False]
    """
    unit = _SUFFIXES.get(printed[-1], 1)
    digits = printed.rstrip("KMB")
    decimals = len(digits.partition(".")[2])
    # Papers do both: LoRA-SB prints 55,296 as 55.2K.
    return abs(count / unit - float(digits)) < 10**-decimals
