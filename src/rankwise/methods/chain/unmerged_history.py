"""An adapter over a quantised weight while a chain is open: its history lies beside the weight.

    y = W x + s Σ Bᵢ (Aᵢ x) + ΔW x        over the finished blocks i, then the current one

Folding would round each block to the few values of the quantised weight. The price is a forward
pass through all blocks: rank Σk instead of k.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from peft.import_utils import is_bnb_4bit_available, is_bnb_available, is_torchao_available
from peft.tuners import lora
from torch import Tensor
from torch.nn.functional import linear

from rankwise.methods.chain.layer import Factors, OpenedLayer, largest_magnitude, stack
from rankwise.methods.chain.lora_block import LoraBlock


class BesideLinear(OpenedLayer):
    """A layer that adds the products of its finished blocks to its output."""

    _stacked: Factors | None = None  # of all blocks, scaled, where the layer computes

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Add the history where the chain's adapter counts."""
        is_counted = self._is_counted(kwargs)
        output = cast(Any, super()).forward(x, *args, **kwargs)
        if not is_counted or not self.history.blocks:
            return output
        B, A = self._stack_on(output.device)
        return output + linear(linear(x.to(A.dtype), A), B).to(output.dtype)

    def set_blocks(self, blocks: list[Factors], base: Tensor | None = None) -> None:
        """Make ``blocks`` the history."""
        self.history.blocks = blocks
        self._stacked = None
        # An earlier block was judged when it was the last.
        factors = blocks[-1] if blocks else ()
        sizes = [largest_magnitude(factor) for factor in factors]
        self.history.largest = torch.stack(sizes).amax() if sizes else torch.tensor(0.0)

    def _stack_on(self, device: torch.device) -> Factors:
        if self._stacked is None or self._stacked[0].device != device:
            B, A = (factor.float() for factor in stack(self.history.blocks, device))
            self._stacked = B * self.history.scaling, A
        return self._stacked


BESIDE: dict[type, type[BesideLinear]] = {}
"""PEFT's class of a layer over a quantised weight, and the one it has while a chain is open.

PEFT defines a layer only where its library is installed.
"""

if is_bnb_4bit_available():

    class BesideLinear4bit(BesideLinear, LoraBlock, lora.Linear4bit):  # type: ignore[misc]
        """Over a 4-bit weight of bitsandbytes."""

    BESIDE[lora.Linear4bit] = BesideLinear4bit

if is_bnb_available():

    class BesideLinear8bit(BesideLinear, LoraBlock, lora.Linear8bitLt):  # type: ignore[misc]
        """Over an 8-bit weight of bitsandbytes."""

    BESIDE[lora.Linear8bitLt] = BesideLinear8bit

if is_torchao_available():
    from peft.tuners.lora.torchao import TorchaoLoraLinear

    class BesideLinearTorchao(BesideLinear, LoraBlock, TorchaoLoraLinear):
        """Over a weight of torchao."""

    BESIDE[TorchaoLoraLinear] = BesideLinearTorchao
