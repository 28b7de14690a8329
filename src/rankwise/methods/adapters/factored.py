"""What our adapters share: a linear layer beside which products of small factors run.

    y = W x + Σ ΔWᵢ dropout(x)        over the active adapters i, each ΔWᵢ = Bᵢ Aᵢ

An adapter type says what its factors are; attaching, merging, switching and loading are here.
Three choices differ from PEFT's own layers:

- Factors are float32 (float64 for such a base) whatever the base is, when made and when loaded:
  a bfloat16 core would lose the updates of a small learning rate. With PEFT's
  ``autocast_adapter_dtype=False`` they take the dtype of the base instead. Whoever casts some of
  them later, as TRL casts what trains of a quantised model, may: they are multiplied in the widest.
- Frozen factors are parameters that require no gradient. So they have the names of PEFT's own
  (``rankwise_xs_A.default.weight``), which tools go by that copy, shard or move an adapter.
- While merged the layer keeps the weight it had, and unmerging puts it back bit for bit.
  Subtracting what was added leaves a rounding error each time, up to 0.4 % of a weight in bfloat16.
  The price is the memory of that weight until the layer is unmerged or unloaded.
- A file that lacks a tensor of the adapter is refused; PEFT goes on with an untrained value.
"""

from __future__ import annotations

import contextlib
import functools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, check_adapters_to_merge
from peft.utils.other import get_pattern_key
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rankwise.core.errors import AdapterError, ModelError
from rankwise.methods.adapters.bridge import base_shape, freeze
from rankwise.methods.adapters.fused import is_fusable
from rankwise.methods.adapters.mixed import adapters_by_sample, rows_of
from rankwise.methods.adapters.peft_types import current_names
from rankwise.methods.adapters.quantised import backend_of, is_supported, keep_differentiable
from rankwise.methods.adapters.sharded import whole


class Factor(nn.Module):
    """A tensor of an adapter, ``weight``, and where it is a matrix its product with vectors."""

    def __init__(self, shape: Sequence[int], *, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(*shape, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Return W x for inputs (..., in)."""
        return nn.functional.linear(x, self.weight)

    def extra_repr(self) -> str:
        """Show the shape."""
        return " x ".join(map(str, self.weight.shape))


class ReadFactor(Factor):
    """A factor whose layer reads ``weight`` and does not call the module.

    PEFT's policy for FSDP gives each leaf with a trained weight a shard of its own, which is whole
    only while that module is called. So this is no leaf.
    """

    def __init__(self, shape: Sequence[int], *, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(shape, device=device, dtype=dtype)
        self.inner = nn.Identity()


class FactoredLinear(nn.Module, BaseTunerLayer, ABC):
    """A frozen ``Linear`` or ``Conv1D`` layer with any number of adapters ΔW = B A.

    A concrete class names the parts of an adapter: those in ``adapter_layer_names`` train, those in
    ``frozen_names`` are fixed and saved with it.
    """

    factor_class: type[Factor] = ReadFactor
    frozen_names: tuple[str, ...] = ()
    # The parts that scale a whole change: they take their own learning rate and no weight decay.
    strength_names: tuple[str, ...] = ()

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.fan_in_fan_out = isinstance(self.get_base_layer(), Conv1D)  # stored as (in, out)
        self.out_features, self.in_features = base_shape(self)
        self.quantization_backend = backend_of(self.get_base_layer())
        self.r: dict[str, int] = {}
        self.dropout = nn.ModuleDict()
        for part in self.part_names:
            self.add_module(part, nn.ModuleDict())
        self.frozen_peft_weight_names = {}
        self.register_load_state_dict_pre_hook(_rename_old_parts)
        self.merged_adapters: list[str] = []
        self._weight_before_merge: Tensor | None = None

    @abstractmethod
    def update_layer(self, adapter_name: str, *, r: int, config: Any, module_name: str) -> None:
        """Add an adapter of rank ``r``, as ``config`` says; ``module_name`` is the layer's."""

    @abstractmethod
    def lora_factors(self, adapter_name: str) -> tuple[Tensor, Tensor]:
        """Return (B, A) of shapes (out, k) and (k, in) with ΔW = B A exactly, scaling included."""

    @abstractmethod
    def write_factors(self, adapter_name: str, B: Tensor, R: Tensor, A: Tensor) -> None:
        """Start from B (out, r) and A (r, in), orthonormal, and R (r, r), diagonal."""

    @abstractmethod
    def _part_shapes(self, r: int) -> list[tuple[int, ...]]:
        """Return the shapes of the parts of an adapter of rank ``r``: trained, then frozen."""

    @abstractmethod
    def _change(self, adapter_name: str, x: Tensor) -> Tensor:
        """Return ΔW x for inputs (..., in)."""

    def forward(
        self, x: Tensor, *args: Any, adapter_names: list[str] | None = None, **kwargs: Any
    ) -> Tensor:
        """Add the changes of the active adapters, or of each sample's own (``mixed.py``)."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        if adapter_names is None and not args and not kwargs and self._is_fusable(x):
            return self._fused(self.active_adapters[0], x)
        output = self.base_layer(x, *args, **kwargs)
        if adapter_names is not None:
            return self._add_by_sample(adapter_names, x, output)
        if self.disable_adapters or self.merged:
            return output
        total = output
        for adapter_name in self.active_adapters:
            if adapter_name in self.r:
                total = total + self._change(adapter_name, self.dropout[adapter_name](x))
        return total.to(output.dtype)

    @abstractmethod
    def _fused(self, adapter_name: str, x: Tensor) -> Tensor:
        """Return W x + b + ΔW x in one step of autograd; equal to the plain form (``fused.py``)."""

    def _is_fusable(self, x: Tensor) -> bool:
        if self.disable_adapters or self.merged or not self.r.keys() >= {*self.active_adapters}:
            return False
        return all(is_fusable(self, x, self.dropout[name]) for name in self.active_adapters)

    @property
    def part_names(self) -> tuple[str, ...]:
        """The names of an adapter's parts: those that train, then the frozen ones."""
        return self.adapter_layer_names + self.frozen_names

    def parts(self, adapter_name: str) -> list[Tensor]:
        """Return the tensors of an adapter: those that train, then the frozen ones."""
        return [getattr(self, part)[adapter_name].weight for part in self.part_names]

    def frozen_parts(self, adapter_name: str) -> dict[str, Tensor]:
        """Map the names of the frozen parts of an adapter to their tensors."""
        return {part: getattr(self, part)[adapter_name].weight for part in self.frozen_names}

    def _in_one_dtype(self, adapter_name: str) -> list[Tensor]:
        """Return the parts of an adapter, whole, in the widest of their dtypes."""
        parts = [whole(part) for part in self.parts(adapter_name)]
        dtype = functools.reduce(torch.promote_types, (part.dtype for part in parts))
        return [part.to(dtype) for part in parts]

    def get_delta_weight(self, adapter_name: str) -> Tensor:
        """Return the dense change ΔW, laid out as the layer's weight."""
        B, A = self.lora_factors(adapter_name)
        change = B @ A
        return change.T if self.fan_in_fan_out else change

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the changes of the named adapters (by default the active ones) to the weight.

        Raises:
            ModelError: The weight is quantised, or ``safe_merge`` is set and the merged weight is
                not finite.
        """
        if self.quantization_backend is not None:
            raise ModelError(
                f"the weight is quantised ({self.quantization_backend.backend_name}), and merging "
                "would round the change away: export with rankwise.export_lora, or load the base "
                "in bfloat16 and merge there"
            )
        weight = self.weight
        for adapter_name in check_adapters_to_merge(self, adapter_names):
            if adapter_name not in self.r:
                continue
            merged = (weight.data + self.get_delta_weight(adapter_name).detach()).to(weight.dtype)
            if safe_merge and not torch.isfinite(merged).all():
                raise ModelError(
                    f"merging adapter {adapter_name!r} gives a weight that is not finite: "
                    "the adapter has diverged, load an earlier checkpoint"
                )
            if self._weight_before_merge is None:
                self._weight_before_merge = weight.data
            weight.data = merged
            self.merged_adapters.append(adapter_name)

    def unmerge(self) -> None:
        """Put back, bit for bit, the weight that the layer had before it was merged."""
        if self._weight_before_merge is not None:
            weight = self.weight
            weight.data = self._weight_before_merge.to(weight.device, weight.dtype)
        self._weight_before_merge = None
        self.merged_adapters.clear()

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        return True

    def _add_by_sample(self, names: list[str], x: Tensor, output: Tensor) -> Tensor:
        if self.merged:
            raise ModelError("adapter_names with merged adapters: call unmerge_adapter() first")
        total = output.clone()
        for adapter_name, rows in rows_of(names, len(x)).items():
            if adapter_name in self.r:
                total[rows] += self._change(adapter_name, x[rows]).to(total.dtype)
        return total

    def _allocate(self, adapter_name: str, *, r: int, dropout: float) -> None:
        self.r[adapter_name] = r
        self.dropout[adapter_name] = nn.Dropout(dropout)
        made = {"device": self.weight.device, "dtype": _factor_dtype(self.weight)}
        for part, shape in zip(self.part_names, self._part_shapes(r), strict=True):
            getattr(self, part)[adapter_name] = self.factor_class(shape, **made)
        freeze(self, adapter_name, ())

    def _is_to_be_loaded(self, adapter_name: str, config: PeftConfig) -> bool:
        """Tell whether a file is about to fill the adapter, so that no start is to be computed.

        Loaders make adapters for inference, or without memory (``low_cpu_mem_usage``).
        """
        return config.inference_mode or self.parts(adapter_name)[0].is_meta

    def _move_adapter_to_device_of_base_layer(
        self, adapter_name: str, device: torch.device | None = None
    ) -> None:
        # PEFT calls this after loading without memory. Its own version rounds to the base's dtype,
        # and loses what was loaded when the base has no memory yet.
        target = device or self.weight.device
        for part in self.part_names:
            container = getattr(self, part)
            if adapter_name not in container or container[adapter_name].weight.is_meta:
                continue
            weight = container[adapter_name].weight
            place = weight.device if target.type == "meta" else target
            # A copy: in the memory of a file it may lie unaligned, and products round otherwise.
            moved = weight.detach().to(place, _factor_dtype(self.weight), copy=True)
            container[adapter_name].weight = nn.Parameter(moved, weight.requires_grad)

    def round_to_base(self, adapter_name: str) -> None:
        """Cast the parts of an adapter to the dtype in which the base layer computes."""
        _, dtype = self._get_base_layer_device_and_dtype(self.get_base_layer())
        if adapter_name in self.r and dtype is not None and dtype.is_floating_point:
            for part in self.part_names:
                getattr(self, part)[adapter_name].to(dtype)


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
        with adapters_by_sample(self.model, names, beams=kwargs.get("num_beams") or 1):
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


def _rename_old_parts(
    layer: FactoredLinear, state_dict: dict[str, Tensor], prefix: str, *_: Any
) -> None:
    """Read what 0.1 called ``rankwise_xs_R.default``, without ``.weight``."""
    for part in layer.part_names:
        for adapter_name in getattr(layer, part):
            name = f"{prefix}{part}.{adapter_name}"
            if name in state_dict:
                state_dict[f"{name}.weight"] = state_dict.pop(name)


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


def _factor_dtype(weight: Tensor) -> torch.dtype:
    return torch.promote_types(weight.dtype, torch.float32)


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
