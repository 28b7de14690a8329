"""Blocks of a model that keep the results of their matrix products, and make the rest again.

A pass that takes weight gradients needs the input of every layer. Most of them are cheap to make
again from what a block keeps anyway: norms, activations, products by element. So a block of
Transformers that declares itself fit for gradient checkpointing runs under PyTorch's selective
checkpointing (Korthikanti et al. 2022, arXiv 2205.05198, with PyTorch's saved operations), which
repeats it in the backward pass except for what costs time. The gradients are the same, bit by bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts
from transformers.modeling_layers import GradientCheckpointingLayer

from rankwise.core.undoing import undone

_aten = torch.ops.aten
# Batched products are left out: attention written by hand adds to their results in place.
_KEPT_OPERATIONS = [
    _aten.mm.default,
    _aten.addmm.default,
    _aten.linear.default,
    _aten.convolution.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
]


@contextlib.contextmanager
def recomputed_blocks(model: nn.Module) -> Iterator[None]:
    """Let the blocks of ``model`` that can do so make again in the backward pass what is cheap.

    A model without such blocks runs as it is. Key-value caches, which a block would fill twice, are
    switched off meanwhile.
    """
    blocks = [each for each in model.modules() if isinstance(each, GradientCheckpointingLayer)]
    with contextlib.ExitStack() as stack:
        if blocks:
            stack.enter_context(_without_caches(model))
        for block in blocks:
            stack.enter_context(_recomputed(block))
        yield


@contextlib.contextmanager
def _recomputed(block: nn.Module) -> Iterator[None]:
    own = block.__dict__.get("forward")  # Accelerate puts one there, for instance
    contexts = partial(create_selective_checkpoint_contexts, _KEPT_OPERATIONS)

    def restore() -> None:
        block.__dict__.pop("forward", None)
        if own is not None:
            block.forward = own

    with undone(restore):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)
        yield


@contextlib.contextmanager
def _without_caches(model: nn.Module) -> Iterator[None]:
    configs: dict[int, Any] = {id(each): each for each in map(_config, model.modules())}
    caching = [each for each in configs.values() if getattr(each, "use_cache", False)]

    def set_all(value: bool) -> None:
        for config in caching:
            config.use_cache = value

    with undone(partial(set_all, True)):
        set_all(False)
        yield


def _config(module: nn.Module) -> Any:
    return getattr(module, "config", None)
