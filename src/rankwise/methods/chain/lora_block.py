"""The block of a chain in PEFT's LoRA layers: ΔW = s B A, where one factor begins as a sketch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from rankwise.core.errors import ChainError
from rankwise.functional.moments import turn_between
from rankwise.methods.adapters.bridge import assign, freeze
from rankwise.methods.adapters.stacks import number_of_experts, packed, unpacked
from rankwise.methods.chain.layer import Factors, OpenedLayer, Sketches, Turn, cast_parameter


class LoraBlock(OpenedLayer):
    """A LoRA layer of an open chain."""

    def open_parts(self) -> dict[str, nn.Parameter]:
        """Map ``B`` and ``A`` to their parameters."""
        name = self.history.adapter_name
        B, A = cast(Any, self.lora_B[name]), cast(Any, self.lora_A[name])
        return {"B": B.weight, "A": A.weight}

    def open_parameters(self) -> tuple[nn.Parameter, nn.Parameter]:
        """Return the parameters that hold the current factors B and A."""
        parts = self.open_parts()
        return parts["B"], parts["A"]

    def frozen_parts_of_block(self) -> set[str]:
        """Return the frozen factor, if there is one."""
        frozen = self.frozen_peft_weight_names.get(self.history.adapter_name, ())
        return {part.removeprefix("lora_") for part in frozen}

    def parts_beside_factors(self) -> dict[str, nn.Parameter]:
        """Return none: the parts are the factors."""
        return {}

    def own_factors(self, adapter_name: str) -> Factors:
        """Return (B, A) of the current block alone, the scaling in B, as its parameters say."""
        B, A = self.open_parameters()
        return self.history.scaling * B, A

    def open_factors(self) -> Factors:
        """Return the current factors B (..., out, r) and A (..., r, in), views of their memory."""
        experts = number_of_experts(self)
        B, A = (
            unpacked(factor, parameter.detach(), experts)
            for factor, parameter in self.open_parts().items()
        )
        return B, A

    def has_change(self) -> bool:
        """Tell whether neither factor is zero."""
        B, A = self.open_parameters()
        return bool(B.any() and A.any())

    def freeze_sketch(self, factor: str | None) -> None:
        """Freeze ``B`` or ``A``; None thaws both."""
        freeze(self, self.history.adapter_name, [] if factor is None else [f"lora_{factor}"])

    @torch.no_grad()
    def restart_from(self, sketches: Sketches) -> None:
        """Begin with the sketch beside a zero factor."""
        for factor, parameter in self.open_parts().items():
            if factor in sketches:
                assign(parameter, packed(factor, sketches[factor]))
            else:
                parameter.zero_()

    def turns(self, sketches: Sketches) -> dict[nn.Parameter, Turn]:
        """Map the factor that begins at zero to the turn of the other one."""
        B, A = self.open_factors()
        parts, experts = self.open_parts(), number_of_experts(self)
        if "A" in sketches:
            turn = turn_between(A.mT, sketches["A"].mT)
            return {parts["B"]: Turn(None, turn, "B", experts)}
        return {parts["A"]: Turn(turn_between(B, sketches["B"]), None, "A", experts)}

    def write_parts(self, parts: Mapping[str, Tensor]) -> None:
        """Give B and A other values, and their dtypes."""
        for factor, parameter in self.open_parts().items():
            cast_parameter(parameter, parts[factor].dtype)
            assign(parameter, packed(factor, parts[factor]))

    def match_dtypes(self) -> None:
        """Give a frozen sketch the dtype that a trainer has cast the trained factor to.

        TRL casts what trains over a quantised weight to bfloat16, and nothing else.
        """
        parts, frozen = self.open_parts(), self.frozen_parts_of_block()
        if frozen and parts["B"].dtype != parts["A"].dtype:
            (trained,) = parts.keys() - frozen
            for part in frozen:
                cast_parameter(parts[part], parts[trained].dtype)

    def update_layer(self, adapter_name: str, *args: Any, config: Any = None, **kw: Any) -> None:
        """Take a copy of the chain's own adapter, as TRL's trainers make one for their reference.

        Its place is beside W₀, so that it has to be made before a block is folded. A further
        adapter is refused: it may be meant as a mixture of this one.
        """
        if not self._is_own(config):
            self._refuse(f"add adapter {adapter_name!r}")
        if self.history.blocks:
            raise ChainError(
                f"cannot copy adapter {self.history.adapter_name!r} as {adapter_name!r}: "
                f"{len(self.history.blocks)} blocks of its chain lie folded in the base, and the "
                "copy would go without. Make the chain of an adapter that has learned nothing yet "
                "(merge what it has learned into the base), or give the trainer a ref_model"
            )
        config.enter_copy(adapter_name)
        cast(Any, super()).update_layer(adapter_name, *args, config=config, **kw)
