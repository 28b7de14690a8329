"""The one door to PEFT's inner classes.

The rest of the house asks this file what it needs to know of any LoRA-like layer, PEFT's included:
which layers an adapter has, the factors of its change, and how to freeze, write and turn parts of
it. All matrices are in the layout of ``torch.nn.Linear``: weight and change (out, in), B (out, k),
A (k, in). Layers that store their weight transposed (``Conv1D`` of GPT-2) are turned here and
nowhere else. Of a stack of matrices, as of experts, all of these begin with (experts, ...); PEFT's
own layout of such factors is known to ``stacks.py``.

A layer of ours declares the same by two methods: ``lora_factors(adapter_name)`` and
``write_factors(adapter_name, B, R, A)``.

Tensors may be sharded over processes (FSDP2's ``DTensor``). While a layer computes, FSDP2 has its
parameters whole; at other times each process holds its rows, and every process has to come to
:func:`whole` and :func:`assign`, in the same order. Or they may be offloaded, by Accelerate, and
brought when their module is called.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rankwise.capture.stacks import Source, Stack
from rankwise.core.errors import ModelError
from rankwise.core.modules import device_of, in_memory
from rankwise.methods.adapters.adapter_names import unknown_adapter
from rankwise.methods.adapters.quantised import dequantised
from rankwise.methods.adapters.stacks import (
    adapted_parameter,
    adapted_parameter_name,
    idle_experts,
    is_of_parameter,
    is_stored_transposed,
    number_of_experts,
    packed,
    stack_sides,
    unpacked,
)


@runtime_checkable
class FactoredLayer(Protocol):
    """What an adapter layer of ours offers beyond PEFT's contract."""

    def lora_factors(self, adapter_name: str) -> tuple[Tensor, Tensor]:
        """Return (B, A) with ΔW = B A exactly, scaling included."""
        ...

    def write_factors(self, adapter_name: str, B: Tensor, R: Tensor, A: Tensor) -> None:
        """Start the adapter from B R A; B has orthonormal columns, A orthonormal rows.

        With R = 0 the change is zero, and what trains moves the weight along B and A.
        """
        ...


def adapted_layers(model: nn.Module, adapter_name: str = "default") -> dict[str, BaseTunerLayer]:
    """Map the names of the layers that carry ``adapter_name``, as named in ``model``, to them.

    Raises:
        ModelError: No layer carries an adapter of that name; those that there are are named.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer) and adapter_name in module._get_available_adapters()
    }
    if not layers:
        raise unknown_adapter(model, adapter_name)
    return layers


def adapter_parameters(layer: BaseTunerLayer, adapter_name: str) -> dict[str, nn.Parameter]:
    """Map the parts of an adapter, by PEFT's names (``lora_A``), to their parameters."""
    parameters = {}
    modules = vars(layer)["_modules"]  # a third of the time that attributes take
    for part in layer.adapter_layer_names:
        container = modules[part] if part in modules else getattr(layer, part)
        if adapter_name in container:
            entry = container[adapter_name]
            parameters[part] = entry if isinstance(entry, nn.Parameter) else entry.weight
    return parameters


def adapter_tensors(model: nn.Module) -> set[int]:
    """Return the ids of all parameters and buffers of ``model`` that its adapters brought along."""
    own: set[int] = set()
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            module: nn.Module = layer  # type: ignore[assignment]
            base: nn.Module = layer.get_base_layer()
            own |= _tensor_ids(module) - _tensor_ids(base)
    return own


def _tensor_ids(module: nn.Module) -> set[int]:
    return {id(tensor) for tensor in (*module.parameters(), *module.buffers())}


def factors(layer: BaseTunerLayer, adapter_name: str) -> tuple[Tensor, Tensor]:
    """Return B (out, k) and A (k, in) with ΔW = B A exactly, the scaling folded into B.

    Raises:
        ModelError: The change of the layer is not a product of two small factors (DoRA, embeddings,
        ...).
    """
    if isinstance(layer, FactoredLayer):
        return layer.lora_factors(adapter_name)
    scaling = _plain_lora(layer, adapter_name).scaling[adapter_name]
    B, A = (unpacked_parts(layer, adapter_name)[part] for part in ("lora_B", "lora_A"))
    return B * scaling, A


def followed_factors(layer: BaseTunerLayer, adapter_name: str) -> tuple[Tensor, Tensor]:
    """Return the B (out, k) and A (k, in) along which what trains can move the weight.

    They are those of :func:`factors`, but of a core between two frozen factors these, which it
    follows whatever it is.
    """
    product = getattr(layer, "product", None)
    if product is not None:
        B, M, A = product(adapter_name)
        if M is not None:
            return B, A
    return factors(layer, adapter_name)


def check_factors(layer: BaseTunerLayer, adapter_name: str) -> None:
    """Refuse a layer whose change is not a product of two small factors.

    Raises:
        ModelError: As of :func:`factors`.
    """
    if not isinstance(layer, FactoredLayer) or isinstance(layer, LoraLayer):
        factors(layer, adapter_name)  # of ours nothing is asked: it may wait for its values


def check_scaling(layer: BaseTunerLayer, adapter_name: str) -> None:
    """Refuse an adapter whose change is multiplied by nothing, or by what is below zero.

    Raises:
        ModelError: The scaling is not positive and finite.
    """
    scaling = layer.scaling[adapter_name]  # type: ignore[attr-defined]
    if not 0 < scaling < math.inf:
        raise ModelError(
            f"the scaling of adapter {adapter_name!r} must be positive and finite, got {scaling}: "
            "give it a lora_alpha above 0"
        )


def unpacked_parts(layer: BaseTunerLayer, adapter_name: str) -> dict[str, Tensor]:
    """Map the parts of an adapter to what they hold, whole, by expert in a stack."""
    experts = number_of_experts(layer)
    return {
        part: unpacked(part[-1], whole(parameter), experts)
        for part, parameter in adapter_parameters(layer, adapter_name).items()
    }


def delta(layer: BaseTunerLayer, adapter_name: str) -> Tensor:
    """Return the dense change ΔW (out, in) that the adapter makes to the layer's weight."""
    change = layer.get_delta_weight(adapter_name)  # type: ignore[attr-defined]
    return change.mT if is_transposed(layer) else change


def write_factors(
    layer: BaseTunerLayer,
    adapter_name: str,
    B: Tensor,
    R: Tensor,
    A: Tensor,
) -> None:
    """Start the adapter from B R A: B (out, r) and A (r, in) orthonormal, R diagonal and >= 0.

    Plain LoRA gets ΔW = B R A, shared evenly: B √R / √s and √R A / √s with s its scaling. In a
    stack an expert whose B is zero keeps what it has.
    """
    with torch.no_grad(), _kept(layer, adapter_name, idle_experts(B)):
        if isinstance(layer, FactoredLayer):
            layer.write_factors(adapter_name, B, R, A)
            return
        scaling = _plain_lora(layer, adapter_name).scaling[adapter_name]
        parts = adapter_parameters(layer, adapter_name)
        root = (R.diagonal(dim1=-2, dim2=-1) / scaling).sqrt()
        assign(parts["lora_B"], packed("B", B * root.unsqueeze(-2)))
        assign(parts["lora_A"], packed("A", root.unsqueeze(-1) * A))


def write_directions(layer: BaseTunerLayer, adapter_name: str, B: Tensor, A: Tensor) -> None:
    """Start the adapter at ΔW = 0 along B (out, r) and A (r, in), both orthonormal.

    Plain LoRA gets A / √3, of the norm of PEFT's own start on average (uniform on ±1/√in), and
    B = 0: its first step moves the weight along the rows of A. An adapter of ours gets R = 0. In a
    stack an expert whose B is zero keeps what it has.
    """
    if isinstance(layer, FactoredLayer):
        shape = (*B.shape[:-2], B.shape[-1], B.shape[-1])
        write_factors(layer, adapter_name, B, B.new_zeros(shape), A)
        return
    with torch.no_grad(), _kept(layer, adapter_name, idle_experts(B)):
        _plain_lora(layer, adapter_name)
        parts = adapter_parameters(layer, adapter_name)
        assign(parts["lora_B"], packed("B", torch.zeros_like(B)))
        assign(parts["lora_A"], packed("A", A / math.sqrt(3)))


@contextlib.contextmanager
def _kept(layer: BaseTunerLayer, adapter_name: str, experts: list[int]) -> Iterator[None]:
    """Give the adapters of some experts of a stack their values back in the end."""
    if not experts:
        yield
        return
    if isinstance(layer, LoraLayer):
        parts = [each.detach() for each in unpacked_parts(layer, adapter_name).values()]
    else:
        parts = layer.parts(adapter_name)  # type: ignore[attr-defined]
    before = [part[experts].clone() for part in parts]
    yield
    for part, values in zip(parts, before, strict=True):
        part[experts] = values


def turn_factors(layer: BaseTunerLayer, adapter_name: str, left: Tensor, right: Tensor) -> None:
    """Turn the directions of an adapter into those of ``left`` (out, r) and ``right`` (in, r).

    Both have orthonormal columns. With B = Q_B R_B and Aᵀ = Q_A R_A, plain LoRA gets left R_B and
    (right R_A)ᵀ: the spectra of B, of A and of B A stay as they are. A layer of ours gets those of
    B A from the singular values of R_B R_Aᵀ.

    Raises:
        ModelError: The change is not zero, and no factors of the layer's form have its spectrum
            between other directions.
    """
    with torch.no_grad():
        if isinstance(layer, FactoredLayer):
            B, A = layer.lora_factors(adapter_name)
            r = min(left.shape[1], rank(layer, adapter_name))
            if B.shape[-1] > rank(layer, adapter_name) and (B @ A).any():
                raise ModelError(
                    f"{type(layer).__name__} starts at a change that is not zero and whose terms "
                    "have lengths of their own: in other directions it has another spectrum. Leave "
                    "directions='random' out, or start it at zero"
                )
            within = torch.linalg.qr(B).R @ torch.linalg.qr(A.T).R.T
            spectrum = torch.linalg.svdvals(within)[:r]
            layer.write_factors(adapter_name, left[:, :r], spectrum.diag(), right[:, :r].T)
            return
        parts = adapter_parameters(layer, adapter_name)
        B, A = whole(parts["lora_B"]), whole(parts["lora_A"])
        assign(parts["lora_B"], left @ torch.linalg.qr(B).R)
        assign(parts["lora_A"], (right @ torch.linalg.qr(A.T).R).T)


def freeze(layer: BaseTunerLayer, adapter_name: str, parts: Iterable[str]) -> None:
    """Freeze the named parts of an adapter for good: PEFT's ``set_adapter`` leaves them frozen too.

    ``parts`` are PEFT's names (``"lora_A"``); an empty ``parts`` thaws the adapter again, but for
    the parts that a layer declares as frozen always.
    """
    always = getattr(layer, "frozen_names", ())
    frozen = {**layer.frozen_peft_weight_names, adapter_name: (*parts, *always)}
    layer.frozen_peft_weight_names = {name: parts for name, parts in frozen.items() if parts}
    for part in always:
        getattr(layer, part)[adapter_name].requires_grad_(False)
    for part, parameter in adapter_parameters(layer, adapter_name).items():
        parameter.requires_grad_(part not in frozen[adapter_name])


def base_weight(layer: BaseTunerLayer) -> Tensor:
    """Return the weight (out, in) of the layer below the adapter, dequantised if need be."""
    base: nn.Module = layer.get_base_layer()  # type: ignore[assignment]
    with in_memory(base):
        is_module = adapted_parameter_name(layer) == "weight"
        weight = whole(dequantised(base) if is_module else adapted_parameter(layer))
    return weight.mT if is_transposed(layer) else weight


def device_of_base(layer: BaseTunerLayer) -> torch.device:
    """Return the device on which the layer below the adapter computes."""
    return device_of(layer.get_base_layer())  # type: ignore[arg-type]


def weight_of(module: nn.Module) -> Tensor:
    """Return the weight of a module where it computes."""
    if "_hf_hook" not in module.__dict__:
        parameters: Any = module._parameters  # as asking the module by name takes longer
        if "weight" in parameters:
            return parameters["weight"]  # and not `get`, by which DeepSpeed's ZeRO-3 brings nothing
        return module.weight  # type: ignore[return-value]
    with in_memory(module):
        return module.weight  # type: ignore[return-value]


def finite_weight(layer: BaseTunerLayer, name: str) -> Tensor:
    """Return :func:`base_weight` of a layer of that name.

    Raises:
        ModelError: Some of its values are not finite.
    """
    weight = base_weight(layer)
    # One reading of the weight, in which NaN is the least and the greatest.
    if weight.numel() and not torch.stack(torch.aminmax(weight.float())).isfinite().all():
        raise ModelError(f"{name} has a weight with values that are not finite: load it again")
    return weight


def gradient_source(layer: BaseTunerLayer) -> Source:
    """Return what :func:`capture_gradients` takes for the weight below the adapter."""
    base: nn.Module = layer.get_base_layer()  # type: ignore[assignment]
    if not is_of_parameter(layer):
        return base
    return Stack(base, adapted_parameter_name(layer), is_transposed(layer))


def base_shape(layer: BaseTunerLayer) -> tuple[int, int]:
    """Return (out, in) of the layer below the adapter, as the layer declares it."""
    base: nn.Module = layer.get_base_layer()  # type: ignore[assignment]
    if hasattr(layer, "parameter_name") and not isinstance(base, nn.Linear | Conv1D):
        return stack_sides(base, adapted_parameter(layer))
    return linear_sides(base)


def linear_sides(base: nn.Module) -> tuple[int, int]:
    """Return (out, in) of a ``Linear`` or ``Conv1D``, as it declares it."""
    declared: Any = base
    if isinstance(base, Conv1D):
        return declared.nf, declared.nx
    return declared.out_features, declared.in_features


def rank(layer: BaseTunerLayer, adapter_name: str) -> int:
    """Return the rank r that the adapter has in this layer."""
    return layer.r[adapter_name]  # type: ignore[attr-defined]


def _plain_lora(layer: BaseTunerLayer, adapter_name: str) -> LoraLayer:
    if not isinstance(layer, LoraLayer) or adapter_name not in layer.lora_A:
        raise ModelError(
            f"{type(layer).__name__} has no LoRA factors for adapter {adapter_name!r}: "
            "target linear layers only"
        )
    if layer.lora_A[adapter_name].weight.ndim != 2:
        raise ModelError(f"{type(layer).__name__} has no factors: target linear layers only")
    if adapter_name in layer.lora_variant:
        variant = type(layer.lora_variant[adapter_name]).__name__
        raise ModelError(
            f"{type(layer).__name__} uses PEFT's {variant}, whose change is not B A: use plain LoRA"
        )
    if layer.lora_bias[adapter_name]:
        raise ModelError("lora_bias=True adds a bias that factors cannot hold: set lora_bias=False")
    return layer


def is_transposed(layer: BaseTunerLayer) -> bool:
    """Tell whether the layer stores its weight, or each matrix of a stack, as (in, out)."""
    if number_of_experts(layer) is None:
        return bool(getattr(layer, "fan_in_fan_out", False))
    return is_stored_transposed(layer.get_base_layer())  # type: ignore[arg-type]


def is_sharded(tensor: Tensor) -> bool:
    """Tell whether the tensor is spread over processes."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Return the tensor with all its rows, itself if it has them."""
    sharded: Any = tensor
    return sharded.full_tensor() if is_sharded(tensor) else tensor


@torch.no_grad()
def assign(target: Tensor, value: Tensor) -> None:
    """Write ``value``, the same in all processes, into ``target``; each keeps its rows of it."""
    if is_sharded(target):
        from torch.distributed.tensor import distribute_tensor  # some 0.1 s, for few

        sharded: Any = target
        value = value.to(target.device, target.dtype)
        places = (sharded.device_mesh, sharded.placements)
        # Nothing is sent, as every process has the value already.
        value = distribute_tensor(value, *places, src_data_rank=None)
    # From pinned memory nothing has to wait for it. To the CPU all has to, and CUDA alone keeps
    # memory until it has been read.
    target.copy_(value, non_blocking=value.is_cpu and target.is_cuda)
