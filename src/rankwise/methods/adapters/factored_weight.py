"""What our adapters share: a frozen weight beside which products of small factors act.

    W + Σ ΔWᵢ        over the active adapters i, each ΔWᵢ = sᵢ Bᵢ Mᵢ Aᵢ

An adapter type says what B, M and A are (:meth:`FactoredWeight.product`) and where they begin. How
the change acts is said by two classes: on what goes through a linear layer (``factored.py``), or on
the weights of experts (``experts.py``). What concerns whole models is in ``tuner.py``. Three
choices differ from PEFT's own layers:

- Factors are float32 (float64 for such a base) whatever the base is, when made and when loaded:
  a bfloat16 core would lose the updates of a small learning rate. With PEFT's
  ``autocast_adapter_dtype=False`` they take the dtype of the base instead. Whoever casts some of
  them later, as TRL casts what trains of a quantised model, may.
- Frozen factors are parameters that require no gradient. So they have names like those of PEFT's
  own (``rankwise_xs_A.default.weight``), by which tools copy, shard or move an adapter.
- While merged the layer keeps the weight it had, and unmerging puts it back bit for bit.
  Subtracting what was added leaves a rounding error each time, up to 0.4 % of a weight in bfloat16.
  The price is the memory of that weight until the layer is unmerged or unloaded.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn

from rankwise.core.autocast import without_autocast
from rankwise.core.errors import ModelError
from rankwise.methods.adapters.bridge import base_shape, device_of_base, freeze, weight_of, whole
from rankwise.methods.adapters.factors import Factor, Kept, ReadFactor, is_keepable
from rankwise.methods.adapters.fused import COMPUTED
from rankwise.methods.adapters.fused_linear import Factors, in_dtype
from rankwise.methods.adapters.quantised import backend_of
from rankwise.methods.adapters.stacks import is_stored_transposed
from rankwise.methods.adapters.undrawn import Starts

Compute = Callable[[list[Tensor], torch.dtype], list[Tensor]]


class FactoredWeight(nn.Module, BaseTunerLayer, ABC):
    """A frozen weight with any number of adapters ΔW = s B M A.

    A concrete class names the parts of an adapter: those in ``adapter_layer_names`` train, those in
    ``frozen_names`` are fixed and saved with it.

    Attributes:
        parameter_name: Under which name the layer below holds the weight.
        stack: () for one matrix, (experts,) for a stack of them; all shapes then begin with it.
        is_transposed: Whether the weight is stored as (in, out).
    """

    factor_class: type[Factor] = ReadFactor
    frozen_names: tuple[str, ...] = ()
    # The parts that scale a whole change: they take their own learning rate and no weight decay.
    strength_names: tuple[str, ...] = ()
    # The parts that stand left in the product, which LoRA+ gives a larger rate.
    left_names: tuple[str, ...] = ()
    # The part that alone trains, if there is one, between factors that are frozen.
    core_name: str | None = None
    # Whether the rank of an adapter is at most the smaller side of its layer.
    is_bounded_by_sides = False

    parameter_name = "weight"
    stack: tuple[int, ...] = ()

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.is_transposed = is_stored_transposed(self.get_base_layer())
        self.out_features, self.in_features = base_shape(self)
        self.quantization_backend = backend_of(self.get_base_layer())
        self.r: dict[str, int] = {}
        self.scaling: dict[str, float] = {}
        self._first_scaling: dict[str, float] = {}
        self.forms: dict[str, Any] = {}  # of adapters whose config asks for another form
        self.first_strengths: dict[str, float] = {}  # of adapters that have a strength
        self.dropout = nn.ModuleDict()
        for part in self.part_names:
            self.add_module(part, nn.ModuleDict())
        self.frozen_peft_weight_names = {}
        self.register_load_state_dict_pre_hook(_rename_old_parts)
        self.merged_adapters: list[str] = []
        self._weight_before_merge: Tensor | None = None
        self._kept: dict[str, dict[str, Kept]] = {}
        self._starts = Starts()

    @property
    def other_param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The attributes with an entry an adapter, beside the trained parts (PEFT's word)."""
        by_name = ("r", "scaling", "_first_scaling", "forms", "first_strengths", "dropout")
        return (*self.frozen_names, *by_name, "_kept", "_starts")

    @abstractmethod
    def update_layer(self, adapter_name: str, *, r: int, config: Any, module_name: str) -> None:
        """Add an adapter of rank ``r``, as ``config`` says; ``module_name`` is the layer's."""

    @abstractmethod
    def product(self, adapter_name: str, dtype: torch.dtype | None = None) -> Factors:
        """Return B (out, k), M (k, k) or None for the identity, and A (k, in), without scaling.

        They know their derivatives. With a ``dtype`` they are about to be used in it: what is
        frozen is of it already; else all are of the widest dtype among the parts.
        """

    @abstractmethod
    def write_factors(self, adapter_name: str, B: Tensor, R: Tensor, A: Tensor) -> None:
        """Start from B (out, r) and A (r, in), orthonormal, and R (r, r), diagonal."""

    @abstractmethod
    def _part_shapes(self, r: int) -> list[tuple[int, ...]]:
        """Return the shapes of the parts for one matrix and rank ``r``: trained, then frozen."""

    def lora_factors(self, adapter_name: str) -> tuple[Tensor, Tensor]:
        """Return (B, A) of shapes (out, k) and (k, in) with ΔW = B A exactly, scaling included."""
        return self.own_factors(adapter_name)

    def own_factors(self, adapter_name: str) -> tuple[Tensor, Tensor]:
        """Return the same of the present parts alone, also where a chain has a history beside."""
        B, M, A = self._scaled_product(adapter_name)
        return B if M is None else B @ M, A

    def has_learned(self, adapter_name: str) -> bool:
        """Tell whether an adapter has been computed with and changes the weight."""
        start = self._starts.get(adapter_name)
        return not (start is not None and start.is_to_be_drawn) and not self.is_zero(adapter_name)

    def _names_at_work(self) -> list[str]:
        if self.disable_adapters or self.merged:
            return []
        return [name for name in self.active_adapters if name in self.r]

    def _scaled_product(self, adapter_name: str, dtype: torch.dtype | None = None) -> Factors:
        B, M, A = self.product(adapter_name, dtype)
        scaling = self.scaling[adapter_name]
        if scaling == 1:
            return B, M, A
        return (scaling * B, None, A) if M is None else (B, scaling * M, A)

    @property
    def part_names(self) -> tuple[str, ...]:
        """The names of an adapter's parts: those that train, then the frozen ones."""
        return self.adapter_layer_names + self.frozen_names

    def parts(self, adapter_name: str) -> list[Tensor]:
        """Return the tensors of an adapter, drawn: those that train, then the frozen ones."""
        self._starts.draw(adapter_name)
        return [factor.weight for factor in self._factors(adapter_name)]

    def frozen_parts(self, adapter_name: str) -> dict[str, Tensor]:
        """Map the names of the frozen parts of an adapter to their tensors."""
        return {part: getattr(self, part)[adapter_name].weight for part in self.frozen_names}

    def _factors(self, adapter_name: str) -> list[Factor]:
        modules: Any = self._modules  # not asked for by name, which takes the longest of a step
        return [modules[part]._modules[adapter_name] for part in self.part_names]

    def _parts_in(
        self, adapter_name: str, dtype: torch.dtype | None, frozen_dtype: torch.dtype | None = None
    ) -> list[Tensor]:
        """Return the parts of an adapter, whole, in ``dtype`` or the widest of their own.

        ``frozen_dtype`` is that of the frozen ones, if it is another; the others stay as they are.
        """
        self._starts.draw(adapter_name)
        parts = [whole(weight_of(factor)) for factor in self._factors(adapter_name)]
        trained = len(self.adapter_layer_names)
        if frozen_dtype is None:
            target = dtype or functools.reduce(torch.promote_types, {each.dtype for each in parts})
            parts[:trained] = [in_dtype(part, target) for part in parts[:trained]]
        else:
            target = frozen_dtype
        frozen = parts[trained:]
        if frozen and {part.dtype for part in frozen} != {target}:
            parts[trained:] = self._keep(adapter_name, _cast, frozen, dtype=target)
        return parts

    def _keep(
        self, adapter_name: str, compute: Compute, sources: list[Tensor], *, dtype: torch.dtype
    ) -> list[Tensor]:
        """Return ``compute(sources, dtype)``, anew only when the frozen ``sources`` change."""
        of_adapter = self._kept.setdefault(adapter_name, {})
        kept = of_adapter.get(compute.__name__)
        if kept is not None and not torch.compiler.is_compiling() and kept.is_of(sources, dtype):
            return kept.values
        values = compute(sources, dtype)
        if is_keepable(self, sources):
            of_adapter[compute.__name__] = Kept(sources, dtype, values)
        return values

    def train(self, mode: bool = True) -> FactoredWeight:
        """Set the mode; what was computed of frozen factors is computed anew."""
        self._kept.clear()
        super().train(mode)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be computed again, or is computed now."""
        self._starts.draw_all()
        return {**self.__dict__, "_kept": {}, "_starts": Starts()}

    def get_delta_weight(self, adapter_name: str) -> Tensor:
        """Return the dense change ΔW, laid out as the layer's weight."""
        B, A = self.lora_factors(adapter_name)
        change = B @ A
        return change.mT if self.is_transposed else change

    def set_scale(self, adapter: str, scale: float) -> None:
        """Set the scaling of an adapter to ``scale`` times what it was made with."""
        if adapter in self.r:
            self.scaling[adapter] = scale * self._first_scaling[adapter]

    def scale_layer(self, scale: float) -> None:
        """Multiply the scaling of the active adapters by ``scale``."""
        for name in self.active_adapters:
            if name in self.r:
                self.scaling[name] *= scale

    def unscale_layer(self, scale: float | None = None) -> None:
        """Divide the scaling of the active adapters by ``scale``; None sets it to the first."""
        for name in self.active_adapters:
            if name in self.r:
                first = self._first_scaling[name]
                self.scaling[name] = first if scale is None else self.scaling[name] / scale

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the changes of the named adapters (by default the active ones) to the weight.

        Raises:
            ModelError: The weight is quantised, or ``safe_merge`` is set and the merged weight is
                not finite; the layer is as it was.
        """
        self.check_mergeable()
        self._starts.draw_all()  # from the weight as it is
        names = [n for n in check_adapters_to_merge(self, adapter_names) if n in self.r]
        merged = self._merged_weight(names)
        if safe_merge:
            _check_finite(merged, names)
        if names and self._weight_before_merge is None:
            self._weight_before_merge = self.weight.data
        self.weight.data = merged
        self.merged_adapters += names

    def check_mergeable(self) -> None:
        """Refuse a weight that has too few digits to hold a change.

        Raises:
            ModelError: It has.
        """
        backend = self.quantization_backend
        if backend is not None or self.weight.dtype not in COMPUTED:
            kind = self.weight.dtype if backend is None else backend.backend_name
            raise ModelError(
                f"the weight is quantised ({kind}), and merging would round the change away: "
                "export with rankwise.export_lora, or load the base in bfloat16 and merge there"
            )

    def check_merge_is_finite(self, adapter_names: list[str] | None) -> None:
        """Refuse to merge adapters that would leave a weight that is not finite.

        Raises:
            ModelError: They would.
        """
        names = self.active_adapters if adapter_names is None else adapter_names
        new = [name for name in names if name in self.r and name not in self.merged_adapters]
        _check_finite(self._merged_weight(new), new)

    @without_autocast()
    def _merged_weight(self, names: list[str]) -> Tensor:
        merged = self.weight.data
        for name in names:
            merged = (merged + self.get_delta_weight(name).detach()).to(merged.dtype)
        return merged

    def unmerge(self) -> None:
        """Put back, bit for bit, the weight that the layer had before it was merged."""
        if self._weight_before_merge is not None:
            weight = self.weight
            weight.data = self._weight_before_merge.to(weight.device, weight.dtype)
        self._weight_before_merge = None
        self.merged_adapters.clear()

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        return True

    def is_stuck(self, adapter_name: str) -> bool:
        """Tell whether the start of an adapter is such that no training moves the weight."""
        return False

    def rows_along(self, adapter_name: str, A: Tensor) -> Tensor:
        """Return the rows that :meth:`restart` needs for a change along the rows of A (r, in)."""
        return A

    def restart(self, adapter_name: str, B: Tensor, A: Tensor) -> None:
        """Start anew at ΔW = 0 exactly, with factors along B (out, r) and A (r, in).

        Raises:
            ModelError: The adapter does not say how, so that it cannot be the block of a chain.
        """
        raise ModelError(f"{type(self).__name__} does not say how it begins anew: see restart()")

    def is_zero(self, adapter_name: str) -> bool:
        """Tell whether ΔW = 0 exactly."""
        B, A = self.own_factors(adapter_name)
        return not (B.any() and A.any())

    def combined(self, weights: dict[str, float]) -> list[Tensor]:
        """Return the parts of the adapter whose ΔW is the weighted sum of those of others.

        Raises:
            ModelError: There is none of this form.
        """
        raise ModelError(f"a sum of several adapters of {type(self).__name__} is none itself")

    def _allocate(self, adapter_name: str, *, r: int, dropout: float, scaling: float = 1.0) -> None:
        self.r[adapter_name] = r
        self.scaling[adapter_name] = self._first_scaling[adapter_name] = scaling
        self.dropout[adapter_name] = nn.Dropout(dropout)
        made = {"device": device_of_base(self), "dtype": factor_dtype(self.weight)}
        for part, shape in zip(self.part_names, self._part_shapes(r), strict=True):
            getattr(self, part)[adapter_name] = self.factor_class((*self.stack, *shape), **made)
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
        target = device or device_of_base(self)
        for part in self.part_names:
            container = getattr(self, part)
            if adapter_name not in container or container[adapter_name].weight.is_meta:
                continue
            weight = container[adapter_name].weight
            place = weight.device if target.type == "meta" else target
            # A copy: in the memory of a file it may lie unaligned, and products round otherwise.
            moved = weight.detach().to(place, factor_dtype(self.weight), copy=True)
            container[adapter_name].weight = nn.Parameter(moved, weight.requires_grad)

    def round_to_base(self, adapter_name: str) -> None:
        """Cast the parts of an adapter to the dtype in which the base layer computes."""
        dtype = self._dtype_of_base()
        if adapter_name in self.r and dtype in COMPUTED:
            for factor in self._factors(adapter_name):
                factor.to(dtype)

    def _dtype_of_base(self) -> torch.dtype:
        _, dtype = self._get_base_layer_device_and_dtype(self.get_base_layer())
        return dtype or self.weight.dtype


def _check_finite(merged: Tensor, names: list[str]) -> None:
    if not torch.isfinite(merged).all():
        named = ", ".join(map(repr, names))
        raise ModelError(
            f"merging adapter {named} gives a weight that is not finite: an adapter has diverged, "
            "load an earlier checkpoint"
        )


def _cast(sources: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [source.to(dtype) for source in sources]


def factor_dtype(weight: Tensor) -> torch.dtype:
    """Return the dtype that factors beside a weight are made in."""
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def _rename_old_parts(
    layer: FactoredWeight, state_dict: dict[str, Tensor], prefix: str, *_: Any
) -> None:
    """Read what 0.1 called ``rankwise_xs_R.default``, without ``.weight``."""
    for part in layer.part_names:
        for adapter_name in getattr(layer, part):
            name = f"{prefix}{part}.{adapter_name}"
            if name in state_dict:
                state_dict[f"{name}.weight"] = state_dict.pop(name)
