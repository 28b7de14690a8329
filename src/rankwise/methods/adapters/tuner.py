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
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, get_pattern_key
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rankwise.core.errors import AdapterError, ModelError
from rankwise.methods.adapters.factored import FactoredLinear
from rankwise.methods.adapters.peft_types import current_names
from rankwise.methods.adapters.quantised import is_supported, keep_differentiable

BASE = "__base__"  # PEFT's word for a sample that no adapter changes


class FactoredTuner(BaseTuner, ABC):
    """Puts layers of one :class:`FactoredLinear` class in the place of the targeted ones.

    A concrete class sets ``prefix``, ``tuner_layer_cls`` and ``target_module_mapping``.
    """

    def _pre_injection_hook(self, model: nn.Module, config: PeftConfig, adapter_name: str) -> None:
        super()._pre_injection_hook(model, config, adapter_name)
        keep_differentiable(model)

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
            _check_adaptable(target, current_key)
            layer = self.tuner_layer_cls(target)  # type: ignore[call-arg]
        if layer.merged:
            raise ModelError(
                f"{current_key} has merged adapters, so a new one would take its start from the "
                "changed weight: call unmerge_adapter() first"
            )
        ranks = peft_config.rank_pattern or {}
        r = ranks.get(get_pattern_key(list(ranks), current_key), peft_config.r)
        layer.update_layer(adapter_name, r=r, config=peft_config, module_name=current_key)
        if is_new:
            # PEFT's _replace_module moves the layer to the device of its weight, where ours begins
            # (and stumbles over parts without memory beside an 8-bit weight).
            setattr(parent, target_name, layer)

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
            for layer in self.model.modules():
                if isinstance(layer, FactoredLinear):
                    layer.round_to_base(adapter_name)

    def add_weighted_adapter(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: the sum of two such adapters is not of their form.

        Raises:
            ModelError: Always.
        """
        raise ModelError(
            f"{type(self).__name__} cannot combine adapters into one of the same type: export each "
            "with rankwise.export_lora and combine the plain LoRAs with add_weighted_adapter"
        )

    def _check_merge_allowed(self) -> None:
        super()._check_merge_allowed()
        _check_untied(self.model)

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


def _check_untied(model: nn.Module) -> None:
    """Refuse to change the weight of an adapted layer where another module uses it too.

    Raises:
        ModelError: Naming the layer.
    """
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    for name, layer in model.named_modules():
        if isinstance(layer, FactoredLinear) and uses[id(layer.weight)] > 1:
            raise ModelError(
                f"{name} shares its weight with another module, which merging would change too: "
                "use the adapter unmerged, or load the model with tie_word_embeddings=False"
            )


def _check_adaptable(module: nn.Module, name: str) -> None:
    base = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
    if is_supported(base):
        return
    if not isinstance(base, nn.Linear | Conv1D):
        raise ModelError(
            f"{name} is of type {type(base).__name__}, but only Linear and Conv1D layers can be "
            "adapted: leave it out of target_modules, or name it in exclude_modules"
        )
    # Other quantised weights, and sharded ones, are integers or subclasses of Parameter.
    if type(base.weight) is not nn.Parameter or not base.weight.is_floating_point():
        raise ModelError(
            f"{name} ({type(base).__name__}) has a weight of type {type(base.weight).__name__} and "
            f"{base.weight.dtype}, but only plain floating-point weights, those of bitsandbytes "
            "and torchao's int8 ones can be adapted: load the model in one of these"
        )


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
    handles = []
    try:
        for module in model.modules():
            if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
                given = list(names) if module in encoder else repeated
                hook = partial(_add_names, names=given)
                handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_names(model: nn.Module, names: Sequence[str]) -> None:
    if model.training:
        raise ModelError("adapter_names is for inference: call model.eval() first")
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    known = set[str]().union(*(layer._get_available_adapters() for layer in layers))
    if unknown := sorted(set(names) - known - {BASE}):
        raise ModelError(
            f"adapter_names has {unknown}, but the model carries {sorted(known)}: name these, or "
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
