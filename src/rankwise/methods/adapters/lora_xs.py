"""LoRA-XS (Bałazy et al. 2024, arXiv 2405.17604): a small core trains between frozen factors.

    ΔW = s · B R A        B (out, r) and A (r, in) frozen, R (r, r) trains

B = U_r and A = S_r V_rᵀ come from the truncated SVD of the weight, R ~ N(0, (1e-5)²), as in the
paper and its released code. Only r² numbers of a layer train, but r (in + out + r) are stored: the
frozen factors are saved with the adapter. Recomputing them at load, as the released code does, can
give other signs or another order on another device.

This is also the layer of LoRA-SB (Ponkshe et al. 2024, arXiv 2411.19557), which differs in where
B, R and A begin: ``rankwise.initialize`` with ``UpdateApproximation``.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from peft import PeftConfig
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn

from rankwise.core.errors import ModelError, SettingsError
from rankwise.core.seeds import derive_seed
from rankwise.functional.core_gradient import corrected_core_gradient
from rankwise.functional.svd import truncated_svd
from rankwise.methods.adapters.bridge import assign, base_weight, finite_weight, whole
from rankwise.methods.adapters.experts import FactoredExperts, check_target_parameters
from rankwise.methods.adapters.factored import FactoredLinear
from rankwise.methods.adapters.factored_weight import FactoredWeight, factor_dtype
from rankwise.methods.adapters.factors import TINY, Factor
from rankwise.methods.adapters.fused_linear import Factors
from rankwise.methods.adapters.peft_types import RankwisePeftType, register
from rankwise.methods.adapters.tuner import FactoredTuner
from rankwise.methods.adapters.undrawn import Start

INITIAL_CORE_STD = 1e-5


@dataclass
class LoraXSConfig(PeftConfig):
    """Configure LoRA-XS; fields that :class:`peft.LoraConfig` has too mean the same.

    Attributes:
        r: Rank; the core is (r, r).
        lora_alpha: The scaling is s = lora_alpha / r. ``None`` means s = 1 at every rank.
        lora_dropout: Dropout on the input of the adapter.
        target_modules: Names of the layers to adapt, a regular expression, or ``"all-linear"``.
        exclude_modules: Names of layers to leave out, or a regular expression.
        layers_to_transform: Numbers of the blocks to adapt; needs a list of ``target_modules``.
        layers_pattern: Name of the list of blocks that ``layers_to_transform`` counts.
        rank_pattern: Ranks of single layers, by name or regular expression.
        modules_to_save: Further modules that train and are saved, such as a classifier.
        init_weights: ``True`` starts as in the paper. The SVD of a weight is taken when B and A are
            first needed, and never if :func:`rankwise.initialize` has written others before.
            ``False`` takes random orthonormal B and A, as a control. In ``inference_mode`` the
            adapter is about to be loaded and starts at zero.
        seed: Seed of the start. The global random state is neither used nor changed.
        use_rslora: ``True`` makes the scaling s = lora_alpha / √r (Kalajdzievski 2023, arXiv
            2312.03732).
        target_parameters: Names of stacks of experts' weights to adapt, as in
            :class:`peft.LoraConfig`: ``["experts.gate_up_proj", "experts.down_proj"]``.
        trainable_token_indices: Tokens whose embeddings train too, as in :class:`peft.LoraConfig`.

    Example:
        >>> from torch import nn
        >>> from peft import get_peft_model
        >>> config = LoraXSConfig(r=4, target_modules=["0"])
        >>> model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), config)
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
        16
    """

    r: int = 64
    lora_alpha: float | None = None
    lora_dropout: float = 0.0
    target_modules: list[str] | set[str] | str | None = None
    exclude_modules: list[str] | set[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    modules_to_save: list[str] | None = None
    init_weights: bool = True
    seed: int = 0
    use_rslora: bool = False
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None
    target_parameters: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = RankwisePeftType.RANKWISE_XS  # type: ignore[assignment]
        # Sets, as in PEFT's own configs: its injection code computes with them.
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)
        check_target_parameters(self.target_parameters, dropout=self.lora_dropout)
        if self.lora_alpha is not None and not 0 < self.lora_alpha < math.inf:
            raise SettingsError(f"lora_alpha must be positive and finite, got {self.lora_alpha}")
        if self.use_rslora and self.lora_alpha is None:
            raise SettingsError("use_rslora has no effect without lora_alpha: set both")
        if self.layers_to_transform is not None and isinstance(self.target_modules, str):
            raise SettingsError(
                f"layers_to_transform has no effect on target_modules={self.target_modules!r}: "
                "write the block numbers into the regular expression, or list the names"
            )
        if self.layers_pattern and self.layers_to_transform is None:
            raise SettingsError(
                "layers_pattern has no effect without layers_to_transform: set both"
            )


class LoraXSWeight(FactoredWeight, ABC):
    """A weight with adapters ΔW = s · B R A."""

    adapter_layer_names = ("rankwise_xs_R",)
    frozen_names = ("rankwise_xs_B", "rankwise_xs_A")
    core_name = "rankwise_xs_R"
    is_bounded_by_sides = True

    def update_layer(
        self, adapter_name: str, *, r: int, config: LoraXSConfig, module_name: str
    ) -> None:
        largest = min(self.in_features, self.out_features)
        if not 1 <= r <= largest:
            raise ModelError(
                f"r must be between 1 and {largest} (the smaller side of {module_name}), got {r}: "
                "lower r, or give this layer a rank of its own in rank_pattern"
            )
        scaling = 1.0
        if config.lora_alpha is not None:
            scaling = config.lora_alpha / (math.sqrt(r) if config.use_rslora else r)
        self._allocate(adapter_name, r=r, dropout=config.lora_dropout, scaling=scaling)
        if not self._is_to_be_loaded(adapter_name, config):
            seed = derive_seed(config.seed, module_name)
            if config.init_weights:
                finite_weight(self, module_name)
            self._start(adapter_name, seed=seed, module_name=module_name, config=config)

    def product(self, adapter_name: str, dtype: torch.dtype | None = None) -> Factors:
        """Return B, R and A."""
        R, B, A = self._parts_in(adapter_name, None, dtype)
        return B, R, A

    @torch.no_grad()
    def write_factors(self, adapter_name: str, B: Tensor, R: Tensor, A: Tensor) -> None:
        """Start from ΔW = B R A: the frozen factors become B and A, the core R / s."""
        core, left, right = (factor.weight for factor in self._factors(adapter_name))
        assign(core, R / self.scaling[adapter_name])
        assign(left, B)
        assign(right, A)

    @torch.no_grad()
    def restart(self, adapter_name: str, B: Tensor, A: Tensor) -> None:
        """Start anew with a core of zero between the frozen factors B and A."""
        core, left, right = (factor.weight for factor in self._factors(adapter_name))
        core.zero_()
        assign(left, B)
        assign(right, A)

    def is_zero(self, adapter_name: str) -> bool:
        """Tell whether the core is zero."""
        core, *_ = self._factors(adapter_name)
        return not whole(core.weight).any()

    def is_stuck(self, adapter_name: str) -> bool:
        """Tell whether A, which holds the singular values of the weight, is zero or tiny."""
        start = self._starts.get(adapter_name)
        is_there = start is None or not start.is_to_be_drawn
        told = whole(self.parts(adapter_name)[-1]) if is_there else base_weight(self)
        told = told.detach().to(factor_dtype(told))
        largest = torch.maximum(told.amax(dim=(-2, -1)), -told.amin(dim=(-2, -1)))
        return bool(largest.min() < TINY)

    def combined(self, weights: dict[str, float]) -> list[Tensor]:
        """Return Σ wᵢ sᵢ Rᵢ / s, B and A of adapters that share B and A; s is that of the first."""
        first, *others = weights
        _, B, A = self.parts(first)
        for name in others:
            _, other_B, other_A = self.parts(name)
            if not (torch.equal(B, other_B) and torch.equal(A, other_A)):
                raise ModelError(f"adapters {first!r} and {name!r} have other frozen factors")
        cores = {name: self.scaling[name] * self.parts(name)[0].detach() for name in weights}
        R = torch.stack([weight * cores[name] for name, weight in weights.items()]).sum(dim=0)
        return [R / self.scaling[first], B, A]

    def _part_shapes(self, r: int) -> list[tuple[int, ...]]:
        return [(r, r), (self.out_features, r), (r, self.in_features)]

    @torch.no_grad()
    def _start(
        self, adapter_name: str, *, seed: int, module_name: str, config: LoraXSConfig
    ) -> None:
        R, B, A = self.parts(adapter_name)
        # Drawn on the CPU, so that a seed means the same on every device.
        generator = torch.Generator().manual_seed(seed)
        R.copy_(INITIAL_CORE_STD * torch.randn(R.shape, generator=generator))
        if config.init_weights:
            compute = partial(_singular_factors, name=module_name, core=R.shape, seed=seed)
            parameters = [cast(nn.Parameter, factor) for factor in (B, A)]
            self._starts[adapter_name] = Start(self, parameters, compute)
        else:
            B.copy_(torch.linalg.qr(torch.randn(B.shape, generator=generator)).Q)
            A.copy_(torch.linalg.qr(torch.randn(A.mT.shape, generator=generator)).Q.mT)


class LoraXSLinear(LoraXSWeight, FactoredLinear):
    """A linear layer with adapters ΔW = s · B R A."""

    factor_class = Factor

    def _change(self, adapter_name: str, x: Tensor) -> Tensor:
        # Through modules, as PEFT's layers do: whatever shards or offloads these acts when called.
        # And one after the other, so that backward keeps the short vectors A x and not the inputs.
        self._starts.draw(adapter_name)
        hidden = x
        for part in ("rankwise_xs_A", "rankwise_xs_R", "rankwise_xs_B"):
            factor = getattr(self, part)[adapter_name]
            hidden = factor(self._cast_input_dtype(hidden, factor.weight.dtype))
        return self.scaling[adapter_name] * hidden


class LoraXSExperts(LoraXSWeight, FactoredExperts):
    """A stack of experts with adapters ΔW = s · B R A of each."""


def _singular_factors(
    layer: LoraXSWeight, *, name: str, core: torch.Size, seed: int
) -> tuple[Tensor, Tensor]:
    """Return B and A of the r leading singular triplets of the weight, by expert in a stack."""
    generator = torch.Generator().manual_seed(seed)
    torch.randn(core, generator=generator)  # what the core has been drawn from
    weight = finite_weight(layer, name)
    weight = weight.to(factor_dtype(weight))
    triplets = [truncated_svd(each, core[-1], generator=generator) for each in _matrices(weight)]
    U, S, Vh = triplets[0] if weight.ndim == 2 else map(torch.stack, zip(*triplets, strict=True))
    return U, S.unsqueeze(-1) * Vh


def _matrices(tensor: Tensor) -> Sequence[Tensor]:
    return tensor if tensor.ndim == 3 else [tensor]  # type: ignore[return-value]


@torch.no_grad()
def correct_core_gradients(model: nn.Module) -> None:
    """Correct the gradients of all cores in place, so that their step is nearest to the weight's.

    Those of experts are corrected expert by expert.

    LoRA-SB's Theorem 3 (arXiv 2411.19557): g_R* = s⁻² (BᵀB)⁺ g_R (AAᵀ)⁺. It matters where α differs
    from r or the frozen factors are not orthonormal; a step of SGD then does not depend on s
    (Theorem 5). Call it between the backward pass and the step, or hang it on an optimizer:

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        >>> hook = optimizer.register_step_pre_hook(lambda *_: correct_core_gradients(model))
        ... # doctest: +SKIP

    Raises:
        ModelError: ``model`` has no LoRA-XS layer.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, LoraXSWeight)]
    if not layers:
        raise ModelError(
            f"{type(model).__name__} has no LoRA-XS layer, and of no other adapter is there a core "
            "to correct: attach rankwise.LoraXSConfig first"
        )
    for layer in layers:
        for adapter_name in layer.r:
            core, B, A = layer.parts(adapter_name)
            if core.grad is not None:
                scaling = layer.scaling[adapter_name]
                for gradient, *factors in zip(*map(_matrices, (core.grad, B, A)), strict=True):
                    g, left, right = (each.float() for each in (gradient, *factors))
                    gradient.copy_(corrected_core_gradient(g, left, right, scaling=scaling))


class LoraXSModel(FactoredTuner):
    """PEFT's tuner for :class:`LoraXSConfig`."""

    prefix = "rankwise_xs_"
    tuner_layer_cls = LoraXSWeight
    linear_class = LoraXSLinear
    experts_class = LoraXSExperts
    target_module_mapping: dict[str, Any] = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING


register(RankwisePeftType.RANKWISE_XS, LoraXSConfig, LoraXSModel)
