"""Layers whose weight is quantised: bitsandbytes' 4-bit and 8-bit ones, torchao's int8 weights.

The forward pass goes through the quantised layer as it is. Where the weight itself is needed (the
SVD of LoRA-XS, the column norms of DeLoRA, the strength of a start), one layer at a time is
dequantised and let go again. Nothing is written back: a quantised weight is never changed.
"""

from __future__ import annotations

from typing import Any, NoReturn

from peft.import_utils import is_bnb_4bit_available
from peft.utils.quantization_utils import QuantizationBackend, resolve_quantization_backend
from torch import Tensor, nn

from rankwise.core.errors import ModelError

# What the tests run: PEFT's names of the libraries, and the one weight of torchao among them.
_TESTED = ("bnb 4bit", "bnb 8bit", "torchao")
_TESTED_TORCHAO = "Int8Tensor"

_PACKED = (
    "was packed for inference by a forward pass in eval mode on the CPU, and passes no gradients: "
    "load the model again and attach the adapter before running it"
)


def backend_of(base: nn.Module) -> QuantizationBackend | None:
    """Return what PEFT knows of the quantised layer ``base``; None for any other layer."""
    return resolve_quantization_backend(base, get_apply_tensor_subclass=_refuse_requantising)


def is_supported(base: nn.Module) -> bool:
    """Tell whether ``base`` is a quantised layer of a kind that is tested here."""
    backend = backend_of(base)
    if backend is None or backend.backend_name not in _TESTED:
        return False
    return backend.backend_name != "torchao" or type(base.weight).__name__ == _TESTED_TORCHAO


def dequantised(base: nn.Module) -> Tensor:
    """Return the weight of a layer as a floating-point tensor, a copy if it is quantised.

    Raises:
        ModelError: The weight is packed for inference: its library reads it wrongly then.
    """
    backend = backend_of(base)
    weight: Any = base.weight
    if backend is None:
        return weight.data
    if is_packed(weight):
        raise ModelError(f"the weight of a {type(base).__name__} {_PACKED}")
    return backend.get_base_weight(base)


def is_packed(weight: Any) -> bool:
    """Tell whether bitsandbytes has packed a 4-bit weight for inference on the CPU."""
    state = getattr(weight, "quant_state", None)
    return bool(getattr(state, "packing_format_for_cpu", False))


def keep_differentiable(model: nn.Module) -> None:
    """Keep bitsandbytes from packing 4-bit weights for inference on the CPU.

    In eval mode it does so at the first forward pass, where the processor has AVX512-BF16: scales
    are rounded to bfloat16 for good, and from then on no gradient passes through the layer, without
    an error.

    Raises:
        ModelError: A weight is packed already.
    """
    if not is_bnb_4bit_available():
        return
    from bitsandbytes.nn.modules import Linear4bit  # of the extra rankwise[quant]

    for name, layer in model.named_modules():
        if not isinstance(layer, Linear4bit):
            continue
        if is_packed(layer.weight):
            raise ModelError(f"{name} {_PACKED}")
        layer.support_avx512bf16_for_cpu = False


def _refuse_requantising() -> NoReturn:
    raise ModelError("a quantised weight is never changed")
