"""A frozen linear layer and the low-rank change beside it, as one step of autograd.

    y = W x + b + B M A x,       dx = Wᵀ dy + Aᵀ Mᵀ Bᵀ dy

Written with modules, autograd adds the layer's output and the adapter's into a third tensor, and so
it does with the two gradients of x. Here each second product is added inside the first, and x is
kept for the backward pass only where A trains, as it came.

All products are of one dtype, autocast's or that of W, and summed in float32; factors may be wider,
as a master copy that an optimizer moves. Nothing of the size of x or y is made in another dtype.
Layers that are hooked, offloaded, quantised, sharded, traced, or under a transform of
``torch.func`` have the plain form, which is equal up to rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from peft.tuners import lora
from torch import Tensor, nn
from torch.autograd import Function, forward_ad
from torch.nn.modules import module as every_module

from rankwise.core.errors import ModelError
from rankwise.core.undoing import undone

_HALVES = (torch.bfloat16, torch.float16)
_CAST = (torch.float32, *_HALVES)  # by autocast
COMPUTED = (torch.float64, torch.float32, *_HALVES)
Factors = tuple[Tensor, Tensor | None, Tensor]  # B, M or None for the identity, A


def fused_dtype(base: nn.Module, x: Tensor) -> torch.dtype | None:
    """Return the dtype in which ``base`` and a change beside it can be one step; None if not.

    They can where a call of ``base`` does nothing but W x + b, with W and b frozen.
    """
    if not _is_plain_linear(base) or _is_transformed():
        return None
    weight: Any = base._parameters["weight"]
    if is_under_autocast(x):  # which leaves float64 alone
        is_cast = x.dtype in _CAST and weight.dtype in _CAST
        return torch.get_autocast_dtype(x.device.type) if is_cast else None
    return weight.dtype if x.dtype == weight.dtype and x.dtype in COMPUTED else None


def common_dropout(modules: list[nn.Module]) -> float | None:
    """Return with which probability all of ``modules``, one or more, drop the inputs they share.

    None if they do more than that, or if several of them draw.
    """
    probabilities = []
    for module in modules:
        if type(module) not in (nn.Dropout, nn.Identity):
            return None
        is_at_work = type(module) is nn.Dropout and module.training
        probabilities.append(module.p if is_at_work else 0.0)
    return None if len(modules) > 1 and any(probabilities) else probabilities[0]


def fused_linear(
    base: nn.Module,
    x: Tensor,
    factors: Factors,
    *,
    dtype: torch.dtype,
    dropout: float = 0.0,
    scaling: float = 1.0,
) -> Tensor:
    """Return W x + b + s B M A d(x) in ``dtype``, which is what :func:`fused_dtype` has returned.

    Args:
        base: The frozen ``nn.Linear`` with W (out, in) and b.
        x: (..., in).
        factors: B (out, r), M (r, r) or None for the identity, and A (r, in).
        dtype: The dtype of all products and of the result; the rest may be of any other.
        dropout: With which probability d drops an input, drawn as ``nn.Dropout`` draws.
        scaling: s.
    """
    linear: Any = base
    inputs = (x.to(dtype), linear.weight, linear.bias, *factors, dropout, scaling)
    # A compiled step has no second derivatives, nor what leads to them.
    function = _FusedStep if torch.compiler.is_compiling() else _FusedLinear
    result: Any = function.apply(*inputs)
    return result[0] if isinstance(result, tuple) else result


class _FusedLinear(Function):
    """y and A d(x), an output too so that second derivatives find their way through it."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        return _forward(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        dy, dshort = gradients
        return _backward(ctx, dy, dshort)


class _FusedStep(Function):
    """y alone."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        return _forward(ctx, *inputs)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (dy,) = gradients
        return _backward(ctx, dy, None)


def _forward(
    ctx: Any,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    B: Tensor,
    M: Tensor | None,
    A: Tensor,
    dropout: float,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    x_trains, _, _, left_trains, core_trains, right_trains, *_ = ctx.needs_input_grad
    ctx.shape, ctx.drop_scale, ctx.scaling = x.shape, scale_of_dropout(dropout), scaling
    X = x.reshape(-1, x.shape[-1])
    dropped, mask = torch.native_dropout(X, dropout, True) if dropout else (X, None)
    left, core, right = narrowed = _narrowed((B, M, A), x.dtype, scaling)
    short = times(right, dropped.T)
    ctx.save_for_backward(
        x if right_trains else None,  # as it came: derivatives of a view made here would be lost
        mask if x_trains or right_trains else None,
        short if left_trains or core_trains else None,
        *(weight, B, M, A, *narrowed),
    )
    y, Y = start_of_output(x, weight, bias)
    Y.addmm_((short if core is None else core @ short).T, left.T)
    return y, short


def start_of_output(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return W x + b in a new tensor, and the same as a matrix (N, out) to be added to."""
    y = x.new_empty(*x.shape[:-1], weight.shape[0])
    # Written into a tensor of ours: what selective checkpointing keeps, the results of products,
    # may not be added to. And y itself is no view: a model may change it in place.
    X, Y, W = x.reshape(-1, x.shape[-1]), y.view(-1, weight.shape[0]), weight.to(x.dtype)
    if bias is None:
        torch.mm(X, W.T, out=Y)
    else:
        torch.addmm(bias.to(x.dtype), X, W.T, out=Y)
    return y, Y


def _narrowed(factors: Factors, dtype: torch.dtype, scaling: float) -> Factors:
    """Return the factors in ``dtype``, the scaling in the core or else in B."""
    B, M, A = factors
    if M is None:
        return _cast(B, dtype, scaling), None, A.to(dtype)
    return B.to(dtype), _cast(M, dtype, scaling), A.to(dtype)


def _cast(factor: Tensor, dtype: torch.dtype, scaling: float) -> Tensor:
    """Return the factor times ``scaling`` in ``dtype``, in one operation if nobody records it."""
    if scaling == 1:
        return factor.to(dtype)
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return (factor * scaling).to(dtype)
    return torch.mul(factor, scaling, out=factor.new_empty(factor.shape, dtype=dtype))


def scale_of_dropout(probability: float) -> float:
    """Return by what ``nn.Dropout`` multiplies the inputs that it keeps."""
    return 1 / (1 - probability) if probability < 1 else 0.0


def _backward(ctx: Any, dy: Tensor | None, dshort: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return the gradients by operations that have derivatives themselves."""
    gradient = dshort if dy is None else dy
    assert gradient is not None
    if is_under_autocast(gradient):  # whoever calls backward under autocast
        with torch.autocast(gradient.device.type, enabled=False):
            return _backward(ctx, dy, dshort)
    x, mask, short, weight, B, M, A, left, core, right = ctx.saved_tensors
    if torch.is_grad_enabled():
        left, core, right = _narrowed((B, M, A), gradient.dtype, ctx.scaling)
    x_trains, _, _, left_trains, core_trains, right_trains, *_ = ctx.needs_input_grad
    dB = dM = dA = dx = None
    dh = dshort
    if dy is not None:
        dY = dy.reshape(-1, dy.shape[-1]).T
        dh = times(left.T, dY)
        if left_trains:
            dB = outer(dY, short if core is None else core @ short)
            dB = _cast(dB, B.dtype, ctx.scaling if core is None else 1)
        if core is not None:
            dM = _cast(dh @ short.T, M.dtype, ctx.scaling) if core_trains else None
            dh = core.T @ dh
        if dshort is not None:
            dh = dh + dshort
    assert dh is not None
    if right_trains:
        X = x.reshape(-1, x.shape[-1])
        dA = (dh @ (X if mask is None else drop(X, mask, ctx.drop_scale))).to(A.dtype)
    if x_trains:
        change = (dh.T, right)
        dx = input_gradient(dy, weight, change, mask, ctx.drop_scale).view(ctx.shape)
    return dx, None, None, dB, dM, dA, None, None


def input_gradient(
    dy: Tensor | None, weight: Tensor, change: tuple[Tensor, Tensor], mask: Tensor | None, s: float
) -> Tensor:
    """Return dy W + d(k A) as a matrix (N, in), ``change`` being k (N, r) and A."""
    if dy is None:
        dX = change[0] @ change[1]
        return dX if mask is None else drop(dX, mask, s)
    dX = dy.reshape(-1, dy.shape[-1]) @ weight.to(dy.dtype)
    if mask is None:
        return dX.addmm_(*change)
    return dX.add_(drop(change[0] @ change[1], mask, s))


def drop(X: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Drop what a mask drops, and multiply the rest."""
    return torch.ops.aten.native_dropout_backward(X, mask, scale)


def times(left: Tensor, columns: Tensor) -> Tensor:
    """Return left (r, n) times columns (n, N), a matrix of one vector a column."""
    if columns.device.type == "cpu":
        # Up to three times as fast there as a flat matrix times a narrow one.
        return left @ columns
    return (columns.T @ left.T).T


def outer(columns: Tensor, short: Tensor) -> Tensor:
    """Return columns (n, N) times the transpose of short (r, N)."""
    return (short @ columns.T).T if columns.device.type == "cpu" else columns @ short.T


def _is_plain_linear(base: nn.Module) -> bool:
    if type(base) is not nn.Linear or not is_readable(base):
        return False
    weight, bias = base._parameters.get("weight"), base._parameters.get("bias")
    if type(weight) is not nn.Parameter:
        return False
    trains = weight.requires_grad or (bias is not None and bias.requires_grad)
    is_whole = not hasattr(weight, "ds_id")  # DeepSpeed's ZeRO-3
    return is_whole and not trains and not _has_global_hook()


def is_readable(module: nn.Module) -> bool:
    """Tell whether a call of ``module`` does nothing but what its class says.

    So that its weight may be read in the place of a call. Accelerate, for one, replaces a module's
    forward to bring its weight when it is called; Opacus hooks those that train.
    """
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )


def _has_global_hook() -> bool:
    # torch 2.6 has no function for it.
    return bool(
        every_module._global_forward_hooks
        or every_module._global_forward_pre_hooks
        or every_module._global_backward_hooks
        or every_module._global_backward_pre_hooks
    )


def _is_transformed() -> bool:
    """Tell whether a transform is at work that sees operations and no steps of autograd."""
    if torch.compiler.is_compiling():
        return False
    return (
        torch._C._are_functorch_transforms_active()
        or torch._C._is_tracing()
        or forward_ad._current_level >= 0
    )


def is_under_autocast(x: Tensor) -> bool:
    # The meta device, where a run is rehearsed, has no autocast to ask for.
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


class FusedLoraLinear(lora.Linear):
    """PEFT's LoRA linear layer, one step of autograd where it does nothing else."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return what PEFT's layer returns."""
        return lora_forward(self, x, *args, **kwargs)


def lora_forward(layer: lora.Linear, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Return what ``layer`` computes, in one step of autograd where that can be.

    A layer with DoRA or another variant, a bias of its own, factors that are hooked or offloaded,
    merged or mixed adapters, several of which one drops inputs, or with arguments beside x takes
    PEFT's way.
    """
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    is_plain = not (args or kwargs or layer.merged or layer.disable_adapters) and all(
        layer.lora_B[name].bias is None
        and name not in layer.lora_variant
        and _is_plain_factor(layer.lora_A[name])
        and _is_plain_factor(layer.lora_B[name])
        for name in names
    )
    dtype = fused_dtype(layer.base_layer, x) if names and is_plain else None
    dropout = common_dropout([layer.lora_dropout[name] for name in names]) if dtype else None
    if dtype is None or dropout is None:
        return lora.Linear.forward(layer, x, *args, **kwargs)
    if len(names) == 1:
        factors, scaling = _lora_factors(layer, names[0]), layer.scaling[names[0]]
    else:
        factors, scaling = join([_lora_factors(layer, each, is_scaled=True) for each in names]), 1
    return fused_linear(layer.base_layer, x, factors, dtype=dtype, dropout=dropout, scaling=scaling)


def _is_plain_factor(factor: nn.Module) -> bool:
    return type(factor) is nn.Linear and is_readable(factor)


def join(factors: list[Factors]) -> Factors:
    """Return factors of the sum of the products B M A."""
    B = torch.cat([B if M is None else B @ M.to(B.dtype) for B, M, _ in factors], dim=1)
    return B, None, torch.cat([A for _, _, A in factors])


def _lora_factors(layer: lora.Linear, name: str, *, is_scaled: bool = False) -> Factors:
    B, A = cast(Tensor, layer.lora_B[name].weight), cast(Tensor, layer.lora_A[name].weight)
    return B * layer.scaling[name] if is_scaled else B, None, A


def fuse(model: nn.Module) -> list[str]:
    """Let the plain LoRA layers of PEFT in ``model`` compute in one step of autograd each.

    Their parameters, checkpoints and, up to rounding, results stay as they are; a step takes less
    time and memory. Layers over a quantised weight stay as they are. :func:`unfuse` undoes it.

    Returns:
        The names of the layers.

    Raises:
        ModelError: There is none.

    Example:
        >>> from peft import LoraConfig, get_peft_model
        >>> base = nn.Sequential(nn.Linear(8, 6))
        >>> fuse(get_peft_model(base, LoraConfig(r=2, target_modules=["0"])))
        ['base_model.model.0']
    """
    layers = {name: each for name, each in model.named_modules() if is_lora_linear(each)}
    if not layers:
        raise ModelError(
            f"{type(model).__name__} has no LoRA layer over a linear layer that is not quantised: "
            "attach one with peft.get_peft_model first"
        )
    for layer in layers.values():
        layer.__class__ = FusedLoraLinear
    return list(layers)


def unfuse(model: nn.Module) -> None:
    """Undo :func:`fuse`."""
    for layer in model.modules():
        if type(layer) is FusedLoraLinear:
            cast(Any, layer).__class__ = lora.Linear


@contextlib.contextmanager
def fused_lora(layers: Iterable[object]) -> Iterator[None]:
    """Let those of ``layers`` that are PEFT's plain LoRA linear layers be fused meanwhile."""
    plain: list[Any] = [layer for layer in layers if type(layer) is lora.Linear]

    def restore() -> None:
        for layer in plain:
            layer.__class__ = lora.Linear

    with undone(restore):
        for layer in plain:
            layer.__class__ = FusedLoraLinear
        yield


def is_lora_linear(layer: object) -> bool:
    """Tell whether ``layer`` is PEFT's plain LoRA linear layer, fused or not."""
    return type(layer) in (lora.Linear, FusedLoraLinear)
