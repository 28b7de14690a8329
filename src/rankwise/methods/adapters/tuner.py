"""Our adapters in whole models: attached, loaded, merged, and mixed within a batch.

PEFT's tuner does most of it. Beyond that, a file that lacks a tensor of the adapter is refused
where PEFT goes on with an untrained value; and each sample of a batch may go through an adapter of
its own, by PEFT's argument ``adapter_names``, which PEFT drops in silence for every type of adapter
whose tuner does not take it:

    model(**batch, adapter_names=["first", "second", "__base__"])
"""

from __future__ import annotations

import contextlib
from abc import ABC
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from accelerate import init_empty_weights
from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, onload_layer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rankwise.core.errors import AdapterError, ModelError
from rankwise.core.modules import parameter_uses
from rankwise.core.undoing import undone
from rankwise.methods.adapters.adapter_names import adapter_names, check_adapter_names
from rankwise.methods.adapters.bridge import assign
from rankwise.methods.adapters.experts import FactoredExperts
from rankwise.methods.adapters.factored import FactoredLinear
from rankwise.methods.adapters.factored_weight import FactoredWeight
from rankwise.methods.adapters.peft_types import current_names
from rankwise.methods.adapters.quantised import keep_differentiable
from rankwise.methods.adapters.targets import (
    check_adaptable,
    choose_linear_layers,
    find_stacks,
    keep_from_fast_path,
    layers_of,
    rank_of,
    warn_of_stuck_layers,
)

BASE = "__base__"  # PEFT's word for a sample that no adapter changes


class FactoredTuner(BaseTuner, ABC):
    """Puts layers of one type of adapter in the place of the targeted ones.

    A concrete class sets ``prefix``, ``target_module_mapping`` and the classes of its layers: what
    they share (``tuner_layer_cls``), over linear layers and over stacks of experts.
    """

    tuner_layer_cls: type[FactoredWeight]  # type: ignore[reportIncompatibleVariableOverride]
    linear_class: type[FactoredLinear]
    experts_class: type[FactoredExperts]

    def _pre_injection_hook(self, model: nn.Module, config: PeftConfig, adapter_name: str) -> None:
        super()._pre_injection_hook(model, config, adapter_name)
        if isinstance(model, PeftModel):
            raise ModelError(
                "the model is a PEFT model already, and what is laid over its adapters could not "
                "be exported or taken off: call model.add_adapter, or model.unload() first"
            )
        keep_differentiable(model)

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        super()._prepare_model(peft_config, model)
        choose_linear_layers(peft_config, model, self.tuner_layer_cls)

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> PeftConfig:
        if peft_config.target_modules is None and _parameters_of(peft_config):
            peft_config.target_modules = set()
        return super()._prepare_adapter_config(peft_config, model_config)

    def _check_new_adapter_config(self, config: Any) -> None:
        super()._check_new_adapter_config(config)
        names = _parameters_of(config)
        for other_name, other in self.peft_config.items():
            others = _parameters_of(other)
            if other is not config and names and others and others != names:
                raise ModelError(
                    f"adapter {other_name!r} has target_parameters={sorted(others)}, the new one "
                    f"{sorted(names)}: adapters of one model must name the same, as their files "
                    "know such layers by their order"
                )

    def inject_adapter(
        self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any
    ) -> None:
        """Add the layers of an adapter, as PEFT does; name those that it can never move.

        Raises:
            ModelError: PEFT would take the name of an adapter beside another for a module's.
        """
        check_adapter_names(model, {*adapter_names(model), adapter_name})
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        if not self.peft_config[adapter_name].inference_mode:
            warn_of_stuck_layers(model, adapter_name)

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        is_new = not isinstance(target, self.tuner_layer_cls)
        layer: Any = target
        if is_new:
            check_adaptable(self.model, current_key)
            layer = self.linear_class(target)
        self._add_adapter(layer, adapter_name, current_key, peft_config)
        if is_new:
            if isinstance(parent, nn.TransformerEncoderLayer):
                keep_from_fast_path(layer)
            # PEFT's _replace_module moves the layer to the device of its weight, where ours begins
            # (and stumbles over parts without memory beside an 8-bit weight).
            setattr(parent, target_name, layer)

    def _inject_parameters(
        self, peft_config: Any, model: nn.Module, adapter_name: str, low_cpu_mem_usage: bool
    ) -> list[str]:
        # PEFT's own version knows its one class of such layers by name.
        names = find_stacks(model, _parameters_of(peft_config))
        for module_name, parameter_name in names:
            with init_empty_weights() if low_cpu_mem_usage else contextlib.nullcontext():
                layer = self._experts_layer(model, module_name, parameter_name)
                key = f"{module_name}.{parameter_name}"
                self._add_adapter(layer, adapter_name, key, peft_config)
        return [f"{module_name}.{parameter_name}" for module_name, parameter_name in names]

    def _experts_layer(
        self, model: nn.Module, module_name: str, parameter_name: str
    ) -> FactoredExperts:
        """Return the layer of a stack, put around its module and others' layers if need be."""
        outer = layer = model.get_submodule(module_name)
        while isinstance(layer, FactoredExperts):
            if layer.parameter_name == parameter_name:
                return layer
            layer = layer.base_layer
        new = self.experts_class(outer, parameter_name)
        parent, _, child = module_name.rpartition(".")
        setattr(model.get_submodule(parent), child, new)
        return new

    def _add_adapter(
        self, layer: FactoredWeight, adapter_name: str, current_key: str, peft_config: Any
    ) -> None:
        if layer.merged:
            raise ModelError(
                f"{current_key} has merged adapters, so a new one would take its start from the "
                "changed weight: call unmerge_adapter() first"
            )
        r = rank_of(peft_config, current_key)
        layer.update_layer(adapter_name, r=r, config=peft_config, module_name=current_key)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        # PEFT calls this when it unloads. Its own version hands on the weight of what is replaced,
        # which a head of several layers, as RoBERTa's, has not.
        setattr(parent, child_name, new_module)

    @contextlib.contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        # PEFT calls this around each forward pass and generation.
        names = kwargs.get("adapter_names")
        if names is None:
            yield
            return
        with _adapters_by_sample(self.model, names, beams=kwargs.get("num_beams") or 1):
            yield

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        if not autocast_adapter_dtype:
            for _, layer in layers_of(self.model):
                layer.round_to_base(adapter_name)

    def merge_adapter(
        self, adapter_names: list[str] | None = None, safe_merge: bool = False
    ) -> None:
        """Merge as PEFT does; with ``safe_merge`` all layers or, where one would fail, none.

        Raises:
            ModelError: No adapter has one of the names, or a layer cannot be merged.
        """
        self._check_known(adapter_names)
        if safe_merge:
            _check_merges_are_finite(self.model, adapter_names)
        super().merge_adapter(adapter_names, safe_merge)

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
    ) -> Any:
        self._check_known(adapter_names)
        if merge and safe_merge:
            self._check_merge_allowed()
            _check_merges_are_finite(self.model, adapter_names)
        return super()._unload_and_optionally_merge(merge, progressbar, safe_merge, adapter_names)

    def _check_known(self, adapter_names: list[str] | None) -> None:
        if unknown := sorted(set(adapter_names or ()) - self.peft_config.keys()):
            raise ModelError(
                f"there is no adapter {unknown[0]!r} to merge: the model carries "
                f"{sorted(self.peft_config)}"
            )

    def _check_merge_allowed(self) -> None:
        super()._check_merge_allowed()
        _check_untied(self.model)
        for name, layer in layers_of(self.model):
            with _named(name):
                layer.check_mergeable()

    def add_weighted_adapter(
        self,
        adapters: list[str],
        weights: list[float],
        adapter_name: str,
        combination_type: str = "linear",
    ) -> None:
        """Add the adapter whose change is the weighted sum of those of others, exactly.

        There is one for LoRA-XS adapters that share their frozen factors: its core is the weighted
        sum of theirs. So it is after federated averaging, and of starts from one seed.

        Raises:
            ModelError: The sum is not of the adapters' form, or another kind of it is asked for.
        """
        if combination_type != "linear" or adapter_name in self.peft_config:
            raise ModelError(
                f"cannot combine adapters by {combination_type!r} into {adapter_name!r}: the sum "
                f"is 'linear' and takes a new name; for any other, {_ADVICE}"
            )
        parts = self._combined(dict(zip(adapters, weights, strict=True)))
        config = self.peft_config[adapters[0]]
        # For inference: no start is computed.
        self.peft_config[adapter_name] = replace(config, inference_mode=True)
        self.inject_adapter(self.model, adapter_name)
        for name, layer in layers_of(self.model):
            for part, value in zip(layer.parts(adapter_name), parts[name], strict=True):
                assign(part, value)

    def _combined(self, weights: dict[str, float]) -> dict[str, list[Tensor]]:
        parts = {}
        for name, layer in layers_of(self.model):
            missing = [adapter for adapter in weights if adapter not in layer.r]
            try:
                if missing:
                    raise ModelError(f"it does not carry {missing}")
                parts[name] = layer.combined(weights)
            except ModelError as error:
                raise ModelError(f"cannot combine adapters at {name}: {error}; {_ADVICE}") from None
        return parts

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        tensors = super()._remap_adapter_state_dict_for_load(
            model, config, adapter_name, current_names(state_dict)
        )
        expected = {
            key
            for key in model.state_dict()
            if f".{cls.prefix}" in key and key.endswith(f".{adapter_name}.weight")
        }
        missing = sorted(
            cls._remove_adapter_name_from_key(key, adapter_name)
            for key in expected - tensors.keys()
        )
        if missing:
            raise AdapterError(
                f"the adapter file lacks {len(missing)} of {len(expected)} tensors, the first is "
                f"{missing[0]!r}: it is cut short or was saved from another model"
            )
        return tensors


def _parameters_of(config: Any) -> set[str]:
    """Return which weights that are no layers a config names, if its type can name any."""
    return set(getattr(config, "target_parameters", None) or ())


def _check_untied(model: nn.Module) -> None:
    """Refuse to change the weight of an adapted layer where another module uses it too.

    Raises:
        ModelError: Naming the layer.
    """
    uses = parameter_uses(model)
    for name, layer in layers_of(model):
        if uses[id(layer.weight)] > 1:
            raise ModelError(
                f"{name} shares its weight with another module, which merging would change too: "
                "use the adapter unmerged, or load the model with tie_word_embeddings=False"
            )


_ADVICE = "export each with rankwise.export_lora and combine the plain LoRAs"


@contextlib.contextmanager
def _named(layer_name: str) -> Iterator[None]:
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{layer_name}: {error}") from None


def _check_merges_are_finite(model: nn.Module, adapter_names: list[str] | None) -> None:
    for name, layer in layers_of(model):
        with _named(name), onload_layer(layer):
            layer.check_merge_is_finite(adapter_names)


@contextlib.contextmanager
def _adapters_by_sample(model: nn.Module, names: Sequence[str], *, beams: int) -> Iterator[None]:
    """Hand the adapter's name of each sample to every adapted layer of ``model``, until exit.

    With ``beams`` each sample is repeated so often everywhere but in an encoder.

    Raises:
        ModelError: The model is in training mode, or no layer carries one of the names.
    """
    _check_names(model, names)
    repeated = [name for name in names for _ in range(beams)]
    encoder = _encoder_modules(model)
    handles: list[RemovableHandle] = []

    def remove() -> None:
        for handle in handles:
            handle.remove()

    with undone(remove):
        for module in model.modules():
            if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
                given = list(names) if module in encoder else repeated
                hook = partial(_add_names, names=given)
                handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        yield


def _check_names(model: nn.Module, names: Sequence[str]) -> None:
    if model.training:
        raise ModelError("adapter_names is for inference: call model.eval() first")
    known = adapter_names(model)
    if unknown := sorted(set(names) - {*known, BASE}):
        raise ModelError(
            f"adapter_names has {unknown}, but the model carries {known}: name these, or "
            f"{BASE!r} for the base alone"
        )


def _add_names(
    _module: nn.Module, args: Any, kwargs: dict[str, Any], *, names: list[str]
) -> tuple[Any, dict[str, Any]]:
    return args, {**kwargs, "adapter_names": names}


def _encoder_modules(model: nn.Module) -> set[nn.Module]:
    """Return the modules of an encoder beside a decoder, which sees no beams."""
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return set()
    return set(model.get_encoder().modules())  # type: ignore[operator]
