"""Families of Transformers from their configurations alone: a name, what they read, a few sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForSpeechSeq2Seq,
)

from tests.models.architectures import VOCABULARY, from_config
from tests.models.batches import Batch, images, sentences, sounds

TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
WIDTHS = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
DECODER = {**TOKENS, **WIDTHS, "num_key_value_heads": 1}
EXPERTS = {**DECODER, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
PICTURES = {"image_size": 8, "num_channels": 1, "num_labels": 3}


@dataclass(frozen=True)
class Architecture:
    """A model type of Transformers, one of its classes ``AutoModelFor…``, and what it reads."""

    auto: Any
    batch: Callable[[int], Batch]
    sizes: dict[str, Any] = field(default_factory=dict)
    has_experts: bool = False
    targets: str | tuple[str, ...] = "all-linear"


def text(has_experts: bool = False, **sizes: Any) -> Architecture:
    tokens = partial(sentences, has_labels=True)
    return Architecture(AutoModelForCausalLM, tokens, sizes, has_experts)


def classes(read: Callable[[int], Batch]) -> Callable[[int], Batch]:
    """Add a label of one of three classes to each row."""
    return lambda rows: {**read(rows), "labels": torch.arange(rows) % 3}


ARCHITECTURES = {
    "mixtral": text(True, **DECODER, num_local_experts=4, num_experts_per_tok=2),
    "qwen3_moe": text(True, **EXPERTS, head_dim=8, num_experts=4, mlp_only_layers=[0]),
    "deepseek_v3": text(
        True,
        **EXPERTS | {"num_key_value_heads": 2},
        n_routed_experts=4,
        n_shared_experts=1,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
        q_lora_rank=8,
        kv_lora_rank=8,
        qk_rope_head_dim=4,
        qk_nope_head_dim=4,
        v_head_dim=8,
    ),
    "qwen3_next": text(
        True,
        **EXPERTS,
        head_dim=8,
        num_experts=4,
        shared_expert_intermediate_size=12,
        layer_types=["linear_attention", "full_attention"],
        linear_key_head_dim=4,
        linear_value_head_dim=4,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_conv_kernel_dim=2,
    ),
    "gpt_oss": text(
        True,
        **DECODER,
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=8,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
    "gemma3n_text": text(
        **DECODER,
        head_dim=8,
        vocab_size_per_layer_input=VOCABULARY,
        hidden_size_per_layer_input=4,
        laurel_rank=4,
        num_kv_shared_layers=0,
        layer_types=["sliding_attention", "full_attention"],
        sliding_window=8,
        altup_num_inputs=2,
        activation_sparsity_pattern=[0.0, 0.0],
    ),
    "mamba2": Architecture(
        AutoModelForCausalLM,
        partial(sentences, has_labels=True),
        {
            **TOKENS,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_heads": 4,
            "head_dim": 8,
            "state_size": 4,
            "n_groups": 1,
            "conv_kernel": 2,
            "chunk_size": 4,
        },
        targets=("in_proj",),  # it reads the weight of out_proj itself
    ),
    "lfm2": text(
        **DECODER,
        layer_types=["conv", "full_attention"],
        conv_L_cache=3,
        block_auto_adjust_ff_dim=False,
    ),
    "bloom": text(**TOKENS, hidden_size=16, n_layer=2, n_head=2),
    "whisper": Architecture(
        AutoModelForSpeechSeq2Seq,
        lambda rows: {**sounds(rows), "labels": sentences(rows)["input_ids"]},
        {
            **TOKENS,
            "d_model": 16,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24,
            "num_mel_bins": 4,
            "max_source_positions": 8,
            "max_target_positions": 16,
            "decoder_start_token_id": 1,
        },
    ),
    "swin": Architecture(
        AutoModelForImageClassification,
        classes(partial(images, side=8)),
        {
            **PICTURES,
            "patch_size": 2,
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "window_size": 2,
        },
    ),
    "dinov2": Architecture(
        AutoModelForImageClassification,
        classes(partial(images, side=8)),
        {
            **PICTURES,
            "patch_size": 4,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "mlp_ratio": 2,
        },
    ),
    "modernbert": Architecture(
        AutoModelForSequenceClassification,
        classes(sentences),
        {
            **TOKENS,
            **WIDTHS,
            "cls_token_id": 1,
            "sep_token_id": 1,
            "local_attention": 8,
            "num_labels": 3,
        },
    ),
    "roberta": Architecture(
        AutoModelForSequenceClassification,
        classes(sentences),
        {**TOKENS, **WIDTHS, "num_labels": 3},
    ),
}


def base(family: str) -> nn.Module:
    """The model without an adapter, the same weights at each call."""
    architecture = ARCHITECTURES[family]
    return from_config(architecture.auto, family, **architecture.sizes).eval()


def batch(family: str) -> Batch:
    return ARCHITECTURES[family].batch(4)


def logits(model: nn.Module, family: str) -> Tensor:
    with torch.no_grad():
        return model(**batch(family))["logits"]


def train(model: nn.Module, family: str) -> None:
    """Take two steps with what is trainable, in eval mode so that no dropout draws."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(2):
        model(**batch(family))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
