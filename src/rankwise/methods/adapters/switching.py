"""Which adapter of a model is active, and adapters loaded from disk, for a moment."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from torch import nn

from rankwise.core.errors import AdapterError, ModelError
from rankwise.core.library_noise import quiet_peft
from rankwise.core.modules import preserved_structure, random_state_kept
from rankwise.core.undoing import undone
from rankwise.methods.adapters.adapter_names import adapter_names, unknown_adapter
from rankwise.methods.adapters.directory import check_adapter_directory

# What PEFT, torch and safetensors raise of an adapter that does not fit a model.
_DO_NOT_FIT = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)


def has_adapter(model: nn.Module, adapter_name: str) -> bool:
    """Tell whether any layer of ``model`` carries an adapter of that name."""
    return adapter_name in adapter_names(model)


@contextlib.contextmanager
def active_adapter(model: nn.Module, adapter_name: str | None) -> Iterator[None]:
    """Let ``adapter_name`` alone act in all layers, or no adapter at all (None), until exit.

    Unlike PEFT's ``set_adapter`` and ``disable_adapter`` this leaves ``requires_grad`` alone.

    Raises:
        ModelError: No layer carries that adapter; or one is merged: its base weight holds a change
            that no switch turns off.
    """
    if adapter_name is not None and not has_adapter(model, adapter_name):
        raise unknown_adapter(model, adapter_name)
    with _activity_restored(model):
        for name, layer in _tuner_layers(model).items():
            if layer.merged:
                raise ModelError(f"{name} has merged adapters: call unmerge_adapter() first")
            layer._disable_adapters = adapter_name is None
            if adapter_name is not None:
                layer._active_adapter = [adapter_name]
        yield


@contextlib.contextmanager
def loaded_adapter(model: nn.Module, directory: Path) -> Iterator[str]:
    """Load the adapter in ``directory`` beside those of ``model``, yield its name, and remove it.

    Choose with :func:`active_adapter` when it acts. Layers that it alone adapts are unwrapped
    again, and all that the model's modules hold is as it was, the global random states too.

    Raises:
        AdapterError: The directory holds no adapter, a damaged one, or one that does not fit.
        ModelError: ``model`` is no :class:`peft.PeftModel`.
    """
    if not isinstance(model, PeftModel):
        raise ModelError(
            f"an adapter can be loaded into a peft.PeftModel, got {type(model).__name__}: load it "
            "yourself and pass its name"
        )
    check_adapter_directory(directory)
    name = _free_name(model)
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with undone(lambda: _let_train(trained)), preserved_structure(model), random_state_kept():
        _load(model, directory, name)
        yield name


def with_adapter(base: nn.Module, directory: Path) -> PeftModel:
    """Return ``base`` with the adapter in ``directory``, which is checked before.

    Raises:
        AdapterError: The directory holds no adapter, a damaged one, or one of another base.
    """
    check_adapter_directory(directory)
    model: Any = base
    try:
        with quiet_peft():
            # PEFT leaves a factor that has no value there at its start, and goes on.
            warnings.filterwarnings("error", message=".*missing adapter keys")
            return PeftModel.from_pretrained(model, str(directory))
    except (*_DO_NOT_FIT, TypeError, UserWarning) as error:
        raise AdapterError(
            f"the adapter in {directory} does not fit the base model: {error}"
        ) from error


def _load(model: PeftModel, directory: Path, name: str) -> None:
    try:
        result = model.load_adapter(directory, adapter_name=name, is_trainable=False)
    except _DO_NOT_FIT as error:
        raise AdapterError(f"the adapter in {directory} does not fit the model: {error}") from error
    strange = [*result.missing_keys, *result.unexpected_keys]
    if strange:
        raise AdapterError(
            f"the adapter in {directory} does not fit the model: {len(strange)} tensors have no "
            f"counterpart, {strange[0]!r} first"
        )


def _free_name(model: PeftModel) -> str:
    name = "lent"
    while name in model.peft_config:
        name += "_"
    return name


@contextlib.contextmanager
def _activity_restored(model: nn.Module) -> Iterator[None]:
    before = [
        (layer, layer._active_adapter, layer._disable_adapters)
        for layer in _tuner_layers(model).values()
    ]

    def restore() -> None:
        for layer, active, is_disabled in before:
            layer._active_adapter = active
            layer._disable_adapters = is_disabled

    with undone(restore):
        yield


def _let_train(trained: list[tuple[nn.Parameter, bool]]) -> None:
    for parameter, requires_grad in trained:
        parameter.requires_grad_(requires_grad)


def _tuner_layers(model: nn.Module) -> dict[str, BaseTunerLayer]:
    return {
        name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)
    }
