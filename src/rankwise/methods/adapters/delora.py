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

We differ from PEFT's DeLoRA, which has no frozen term and starts at B = 0 with norms clamped at
1e-4: its first optimizer step goes from zero to the bound at any learning rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import peft
import torch
from peft.utils import TRANSFORMERS_MODELS_TO_DELORA_TARGET_MODULES_MAPPING
from peft.utils.other import get_pattern_key
from torch import Tensor, nn

from rankwise.core.errors import ModelError, SettingsError
from rankwise.methods.adapters.bridge import base_weight, freeze
from rankwise.methods.adapters.factored import FactoredLinear, FactoredTuner
from rankwise.methods.adapters.fused_delora import delora_factors, fused_delora
from rankwise.methods.adapters.peft_types import RankwisePeftType, register
from rankwise.methods.adapters.sharded import assign


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

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = RankwisePeftType.RANKWISE_DECOUPLED  # type: ignore[assignment]
        for value in (self.delora_lambda, *(self.lambda_pattern or {}).values()):
            if not 0 < value < math.inf:
                raise SettingsError(f"delora_lambda must be positive and finite, got {value}")


class DeloraLinear(FactoredLinear):
    """A linear layer with adapters ΔW = (λ / r) (B̂ Â - B̂₀ Â₀) diag(n)."""

    adapter_layer_names = (
        "rankwise_decoupled_A",
        "rankwise_decoupled_B",
        "rankwise_decoupled_lambda",
    )
    frozen_names = ("rankwise_decoupled_A0", "rankwise_decoupled_B0", "rankwise_decoupled_norms")
    other_param_names = (*frozen_names, "r", "dropout")
    strength_names = ("rankwise_decoupled_lambda",)

    def update_layer(
        self, adapter_name: str, *, r: int, config: DeloraConfig, module_name: str
    ) -> None:
        if r < 1:
            raise ModelError(f"r must be at least 1, got {r} for {module_name}: see rank_pattern")
        self._allocate(adapter_name, r=r, dropout=config.module_dropout)
        patterns = config.lambda_pattern or {}
        pattern = get_pattern_key(list(patterns), module_name)
        _, _, strength, *_ = self.parts(adapter_name)
        strength.data.fill_(patterns.get(pattern, config.delora_lambda))
        if not config.learn_lambda:
            freeze(self, adapter_name, self.strength_names)
        if not self._is_to_be_loaded(adapter_name, config):
            self._start(adapter_name, is_residual=config.init_weights)

    def lora_factors(self, adapter_name: str) -> tuple[Tensor, Tensor]:
        """Return ([B̂, B̂ - B̂₀], (λ / r) [Â - Â₀; Â₀] diag(n)), of rank 2r (``fused_delora.py``)."""
        return delora_factors(*self._in_one_dtype(adapter_name))

    @torch.no_grad()
    def write_factors(self, adapter_name: str, B: Tensor, R: Tensor, A: Tensor) -> None:
        """Start from the directions B and A; the frozen copies follow, so that ΔW stays zero.

        The sizes in ``R`` have no place here: DeLoRA gives all its terms the one strength λ.
        """
        right, left, _, right_start, left_start, _ = self.parts(adapter_name)
        for part in (right, right_start):
            assign(part, A)
        for part in (left, left_start):
            assign(part, B)

    def _part_shapes(self, r: int) -> list[tuple[int, ...]]:
        right, left = (r, self.in_features), (self.out_features, r)
        return [right, left, (1,), right, left, (self.in_features,)]

    def _change(self, adapter_name: str, x: Tensor) -> Tensor:
        B, A = self.lora_factors(adapter_name)
        return nn.functional.linear(nn.functional.linear(self._cast_input_dtype(x, A.dtype), A), B)

    def _fused(self, adapter_name: str, x: Tensor) -> Tensor:
        return fused_delora(self.base_layer, x, self._in_one_dtype(adapter_name))

    @torch.no_grad()
    def _start(self, adapter_name: str, *, is_residual: bool) -> None:
        A, B, _, A0, B0, norms = self.parts(adapter_name)
        # Drawn on the CPU in PEFT's order: a seed gives the same factors there and on any device.
        A.copy_(nn.init.kaiming_uniform_(torch.empty(A.shape), a=math.sqrt(5)))
        B.copy_(nn.init.kaiming_uniform_(torch.empty(B.shape), a=math.sqrt(5)))
        if is_residual:
            A0.copy_(A)
            B0.copy_(B)
        norms.copy_(torch.linalg.vector_norm(base_weight(self).to(norms.dtype), dim=0))


class DeloraModel(FactoredTuner):
    """PEFT's tuner for :class:`DeloraConfig`."""

    prefix = "rankwise_decoupled_"
    tuner_layer_cls = DeloraLinear
    target_module_mapping: dict[str, Any] = TRANSFORMERS_MODELS_TO_DELORA_TARGET_MODULES_MAPPING


register(RankwisePeftType.RANKWISE_DECOUPLED, DeloraConfig, DeloraModel)
