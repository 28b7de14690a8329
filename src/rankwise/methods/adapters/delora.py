"""DeLoRA (Bini et al. 2025, arXiv 2503.18225): directions and strength of a change, decoupled.

    ΔW = (λ / r) · (B̂ Â - B̂₀ Â₀) · diag(n)        n_j = ‖W₍:,ⱼ₎‖        (Eqs. 8, 9 and 15)

B̂ has the columns of B (out, r) and Â the rows of A (r, in), each scaled to length one (a zero
stays zero); B₀ and A₀ are frozen copies of their initial values. B, A and the strength λ train, one
number a layer. Either term is at most λ max_j n_j in norm, so ‖ΔW‖ ≤ 2 λ max_j n_j at any learning
rate, for as long as λ stays.

We follow the released code (ExplainableML/DeLoRA, commit 82bfcb0) where it differs from the paper:
n holds the norms of the columns, where the formulas have the norm of the whole weight; and the
frozen term is scaled by the present λ, not by the first, so that λ is a pure strength and λ → 0
gives W.

We differ from that code: the frozen copies are copies (there they share the memory of what trains,
so on a CPU nothing ever changes), and n is stored when the adapter is made (there it is taken anew
from a weight that may be merged, so that unmerging leaves another weight).

The paper's formulas, and its ablations, are options: ``weight_norms="matrix"`` takes ‖W‖_F for n,
``residual_lambda="initial"`` keeps λ₀ in the frozen term, ``normalise=False`` leaves factors as
they are.

We differ from PEFT's DeLoRA, which has no frozen term and starts at B = 0 with norms clamped at
1e-4: its first optimizer step goes from zero to the bound at any learning rate.
"""

from __future__ import annotations

import math
from abc import ABC
from dataclasses import dataclass
from typing import Any, Literal

import peft
import torch
from peft.utils import TRANSFORMERS_MODELS_TO_DELORA_TARGET_MODULES_MAPPING
from peft.utils.other import get_pattern_key
from torch import Tensor, nn

from rankwise.core.errors import ModelError, SettingsError
from rankwise.methods.adapters.bridge import assign, finite_weight, freeze, whole
from rankwise.methods.adapters.experts import FactoredExperts, check_target_parameters
from rankwise.methods.adapters.factored import FactoredLinear
from rankwise.methods.adapters.factored_weight import FactoredWeight
from rankwise.methods.adapters.factors import TINY
from rankwise.methods.adapters.fused_delora import (
    frozen_half,
    fused_delora,
    keeps_factors,
    lengths_of,
)
from rankwise.methods.adapters.fused_linear import Factors
from rankwise.methods.adapters.peft_types import RankwisePeftType, register
from rankwise.methods.adapters.tuner import FactoredTuner

_NORMS = ("columns", "matrix", "none")
_RESIDUALS = ("current", "initial")


@dataclass
class DeloraConfig(peft.DeloraConfig):
    """Configure DeLoRA: every field of :class:`peft.DeloraConfig`, the paper's initial state.

    Attributes:
        delora_lambda: The strength λ at the start. The paper takes 4 or 12 on GLUE, 8 on LLaMA and
            1e-3 on diffusion models: its scale goes with the norms of the columns.
        learn_lambda: ``False`` keeps λ as it is; only then is the bound on ‖ΔW‖ a guarantee.
        init_weights: ``True`` starts at ΔW = 0, with A and B drawn from PyTorch's global generator
            as PEFT draws its own. ``False`` subtracts nothing: the change is there at once. In
            ``inference_mode`` the adapter is about to be loaded and starts at zero.
        target_parameters: Names of stacks of experts' weights to adapt, as in
            :class:`peft.LoraConfig`; each expert has a strength of its own.
        trainable_token_indices: Tokens whose embeddings train too, as in :class:`peft.LoraConfig`.
        weight_norms: n: the norms of the weight's ``"columns"``, as the released code; the norm of
            the whole ``"matrix"``, as the formulas; or ``"none"``, ones.
        normalise: ``False`` multiplies B and A as they are: an ablation, without any bound.
        residual_lambda: Which λ scales the frozen term: the ``"current"`` one, as the released
            code, or the ``"initial"`` one, as Eq. 9.

    Example:
        >>> from torch import nn
        >>> from peft import get_peft_model
        >>> config = DeloraConfig(r=2, delora_lambda=12, target_modules=["0"])
        >>> model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), config)
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)  # r (in + out) + 1
        29
    """

    delora_lambda: float = 15.0  # type: ignore[assignment]
    learn_lambda: bool = True
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None
    target_parameters: list[str] | None = None
    weight_norms: Literal["columns", "matrix", "none"] = "columns"
    normalise: bool = True
    residual_lambda: Literal["current", "initial"] = "current"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_target_parameters(self.target_parameters, dropout=self.module_dropout)
        self.peft_type = RankwisePeftType.RANKWISE_DECOUPLED  # type: ignore[assignment]
        for name, known in (("weight_norms", _NORMS), ("residual_lambda", _RESIDUALS)):
            if getattr(self, name) not in known:
                raise SettingsError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        for value in (self.delora_lambda, *(self.lambda_pattern or {}).values()):
            if not 0 < value < math.inf:
                raise SettingsError(f"delora_lambda must be positive and finite, got {value}")


@dataclass(frozen=True)
class Form:
    """Another form of the change than the released code's.

    Attributes:
        normalise: Whether the rank-1 terms are scaled to length one.
        initial_lambda: What scales the frozen term; None: the present λ.
    """

    normalise: bool
    initial_lambda: float | None


class DeloraWeight(FactoredWeight, ABC):
    """A weight with adapters ΔW = (λ / r) (B̂ Â - B̂₀ Â₀) diag(n)."""

    adapter_layer_names = (
        "rankwise_decoupled_A",
        "rankwise_decoupled_B",
        "rankwise_decoupled_lambda",
    )
    frozen_names = ("rankwise_decoupled_A0", "rankwise_decoupled_B0", "rankwise_decoupled_norms")
    strength_names = ("rankwise_decoupled_lambda",)
    left_names = ("rankwise_decoupled_B",)

    def update_layer(
        self, adapter_name: str, *, r: int, config: DeloraConfig, module_name: str
    ) -> None:
        if r < 1:
            raise ModelError(f"r must be at least 1, got {r} for {module_name}: see rank_pattern")
        self._allocate(adapter_name, r=r, dropout=config.module_dropout)
        patterns = config.lambda_pattern or {}
        pattern = get_pattern_key(list(patterns), module_name)
        _, _, strength, *_ = self.parts(adapter_name)
        initial = patterns.get(pattern, config.delora_lambda)
        strength.data.fill_(initial)
        self.first_strengths[adapter_name] = initial
        keeps_initial = config.residual_lambda == "initial"
        if keeps_initial or not config.normalise:
            form = Form(config.normalise, initial if keeps_initial else None)
            self.forms[adapter_name] = form
        if not config.learn_lambda:
            freeze(self, adapter_name, self.strength_names)
        if not self._is_to_be_loaded(adapter_name, config):
            weight = finite_weight(self, module_name)
            self._start(adapter_name, weight, config)

    def product(self, adapter_name: str, dtype: torch.dtype | None = None) -> Factors:
        """Return [B̂, B̂ - B̂₀], None and (λ / r) [Â - Â₀; Â₀] diag(n), of rank 2r."""
        A, B, strength, A0, B0, norms = self._parts_in(adapter_name, None)
        if (form := self.forms.get(adapter_name)) is not None:
            left, right = _factors_in_form(A, B, strength, [A0, B0, norms], form)
            return left, None, right
        left, right = delora_factors(A, B, strength, A0, B0, norms)
        return left, None, right

    @torch.no_grad()
    def write_factors(self, adapter_name: str, B: Tensor, R: Tensor, A: Tensor) -> None:
        """Start at zero along the directions B and A; the frozen copies are these too.

        A term b̂ âᵀ diag(n) lies along b aᵀ for â = (a / n) / ‖a / n‖, with 0 where n is 0 or tiny:
        such a column never moves. The sizes in ``R`` have no place here: DeLoRA gives all its terms
        the one strength λ.

        Raises:
            ModelError: A row of A lies in columns of the weight that are zero or tiny.
        """
        right, left, _, right_start, left_start, norms = self.parts(adapter_name)
        rows = _rows_behind(whole(norms).to(A.device, A.dtype), A)
        is_lost = A.any(dim=-1) & ~rows.any(dim=-1)
        if is_lost.any():
            raise ModelError(
                f"{int(is_lost.sum())} of the directions lie in columns of the weight that are "
                "zero or tiny, which DeLoRA moves in proportion to their norm: set "
                "weight_norms='matrix', or leave the layer out of target_modules"
            )
        for part in (right, right_start):
            assign(part, rows)
        for part in (left, left_start):
            assign(part, B)

    @torch.no_grad()
    def rows_along(self, adapter_name: str, A: Tensor) -> Tensor:
        """Return the unit rows â for which â diag(n) lies along the rows of A.

        A row that lies in columns with a norm of zero or tiny alone comes back as it is: nothing in
        it moves, whatever its scale, until it turns towards other columns.
        """
        norms = whole(self.parts(adapter_name)[-1])
        rows = _rows_behind(norms.to(A.device, A.dtype), A)
        return torch.where(rows.any(dim=-1, keepdim=True), rows, A)

    @torch.no_grad()
    def restart(self, adapter_name: str, B: Tensor, A: Tensor) -> None:
        """Start anew with factors along B and A and the first λ; the frozen copies follow.

        The terms of ΔW then lie along b aᵀ diag(n). Their lengths are those that factors drawn at
        random have, as a step turns a short vector further than a long one; n stays.
        """
        r = B.shape[-1]
        left = B * (math.sqrt(B.shape[-2] / (3 * r)) / lengths_of(B, -2))
        right = A / (math.sqrt(3) * lengths_of(A, -1))
        right_part, left_part, strength, right_start, left_start, _ = self.parts(adapter_name)
        for part, value in (
            *((each, right) for each in (right_part, right_start)),
            *((each, left) for each in (left_part, left_start)),
        ):
            assign(part, value)
        strength.fill_(self.first_strengths[adapter_name])

    def is_zero(self, adapter_name: str) -> bool:
        """Tell whether the factors are the frozen copies, and λ is what these are scaled by."""
        A, B, strength, A0, B0, _ = (whole(part) for part in self.parts(adapter_name))
        form = self.forms.get(adapter_name)
        first = None if form is None else form.initial_lambda
        is_same = torch.equal(A, A0.to(A.dtype)) and torch.equal(B, B0.to(B.dtype))
        return is_same and (first is None or bool((strength == first).all()))

    def is_stuck(self, adapter_name: str) -> bool:
        """Tell whether the norms of the weight's columns are all zero or tiny."""
        return bool(whole(self.parts(adapter_name)[-1]).amax(dim=-1).min() < TINY)

    def _part_shapes(self, r: int) -> list[tuple[int, ...]]:
        right, left = (r, self.in_features), (self.out_features, r)
        return [right, left, (1,), right, left, (self.in_features,)]

    @torch.no_grad()
    def _start(self, adapter_name: str, weight: Tensor, config: DeloraConfig) -> None:
        A, B, _, A0, B0, norms = self.parts(adapter_name)
        # Drawn on the CPU in PEFT's order: a seed gives the same factors there and on any device.
        A.copy_(nn.init.kaiming_uniform_(torch.empty(A.shape), a=math.sqrt(5)))
        B.copy_(nn.init.kaiming_uniform_(torch.empty(B.shape), a=math.sqrt(5)))
        if config.init_weights:
            A0.copy_(A)
            B0.copy_(B)
        weight = weight.to(norms.dtype)
        match config.weight_norms:
            case "columns":
                norms.copy_(torch.linalg.vector_norm(weight, dim=-2))
            case "matrix":
                norms.copy_(torch.linalg.vector_norm(weight, dim=(-2, -1)).unsqueeze(-1))
            case "none":
                norms.fill_(1)


def _rows_behind(norms: Tensor, A: Tensor) -> Tensor:
    """Return the unit rows â (..., r, in) for which â diag(n) lies along the rows of A."""
    norms = norms.unsqueeze(-2)
    seen = norms > TINY * norms.amax(dim=-1, keepdim=True)
    rows = torch.where(seen, A / norms.where(seen, torch.ones_like(norms)), torch.zeros_like(A))
    return nn.functional.normalize(rows, dim=-1)


class DeloraLinear(DeloraWeight, FactoredLinear):
    """A linear layer with adapters ΔW = (λ / r) (B̂ Â - B̂₀ Â₀) diag(n)."""

    def _fused_with(
        self, adapter_name: str, x: Tensor, *, dtype: torch.dtype, dropout: float
    ) -> Tensor:
        is_scaled = self.scaling[adapter_name] != 1  # by scale_layer
        if is_scaled or adapter_name in self.forms or torch.compiler.is_compiling():
            return super()._fused_with(adapter_name, x, dtype=dtype, dropout=dropout)
        A, B, strength, *start = self._parts_in(adapter_name, None)
        # Where nothing is trained, nothing that is handed on is kept either.
        if keeps_factors(x) or not torch.is_grad_enabled():
            start = self._keep(adapter_name, frozen_half, start, dtype=dtype)
        base: Any = self._modules["base_layer"]
        return fused_delora(base, x, [A, B, strength], start, dtype=dtype, dropout=dropout)


class DeloraExperts(DeloraWeight, FactoredExperts):
    """A stack of experts with adapters ΔW = (λ / r) (B̂ Â - B̂₀ Â₀) diag(n) of each."""


def delora_factors(
    A: Tensor, B: Tensor, strength: Tensor, A0: Tensor, B0: Tensor, norms: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ([B̂, B̂ - B̂₀], (λ / r) [Â - Â₀; Â₀] diag(n)), of rank 2r.

    B̂ Â - B̂₀ Â₀ = B̂ (Â - Â₀) + (B̂ - B̂₀) Â₀: so the differences are taken between small factors
    and not between two large products. The start is exactly zero, and in bfloat16 the rounding
    errors are those of the change alone.
    """
    A, B = A / lengths_of(A, -1), B / lengths_of(B, -2)
    A0, B0 = A0 / lengths_of(A0, -1), B0 / lengths_of(B0, -2)
    scale = (strength * (norms / A0.shape[-2])).unsqueeze(-2)
    return torch.cat([B, B - B0], dim=-1), torch.cat([A - A0, A0], dim=-2) * scale


def _factors_in_form(
    A: Tensor, B: Tensor, strength: Tensor, start: list[Tensor], form: Form
) -> tuple[Tensor, Tensor]:
    """Return the factors of another form; ΔW is exactly zero at the start here too."""
    A0, B0, norms = start
    scale, strength = (norms / A.shape[-2]).unsqueeze(-2), strength.unsqueeze(-2)
    if form.normalise:
        A, B = A / lengths_of(A, -1), B / lengths_of(B, -2)
        A0, B0 = A0 / lengths_of(A0, -1), B0 / lengths_of(B0, -2)
    right = torch.cat([A - A0, A0], dim=-2) * scale
    if form.initial_lambda is None:
        return torch.cat([B, B - B0], dim=-1), right * strength
    # λ B̂ Â - λ₀ B̂₀ Â₀ = λ B̂ (Â - Â₀) + (λ B̂ - λ₀ B̂₀) Â₀
    strong = strength * B
    return torch.cat([strong, strong - form.initial_lambda * B0], dim=-1), right


class DeloraModel(FactoredTuner):
    """PEFT's tuner for :class:`DeloraConfig`."""

    prefix = "rankwise_decoupled_"
    tuner_layer_cls = DeloraWeight
    linear_class = DeloraLinear
    experts_class = DeloraExperts
    target_module_mapping: dict[str, Any] = TRANSFORMERS_MODELS_TO_DELORA_TARGET_MODULES_MAPPING


register(RankwisePeftType.RANKWISE_DECOUPLED, DeloraConfig, DeloraModel)
