"""Transformers' own architectures in a few kilobytes, the same weights at each call.

Each function takes what its configuration takes, over sizes that are as small as they can be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from transformers import (
    AutoConfig,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

VOCABULARY = 17
Model = TypeVar("Model", bound=torch.nn.Module)


def same_each_time(build: Callable[..., Model], *arguments: Any, seed: int = 0) -> Model:
    """Build a model from a seed and leave the state of random numbers as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(*arguments)


def llama(**config: Any) -> PreTrainedModel:
    """A gated decoder, of three blocks."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "pad_token_id": 0,
    }
    return same_each_time(LlamaForCausalLM, LlamaConfig(**sizes | config))


def gpt2(**config: Any) -> PreTrainedModel:
    """A decoder of two blocks that stores its weights transposed and ties its head."""
    sizes = {
        "vocab_size": VOCABULARY,
        "n_positions": 16,
        "n_embd": 8,
        "n_layer": 2,
        "n_head": 2,
        "bos_token_id": 1,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    return same_each_time(GPT2LMHeadModel, GPT2Config(**sizes | config))


def t5(**config: Any) -> PreTrainedModel:
    """An encoder of two blocks and a decoder of three."""
    sizes = {
        "vocab_size": VOCABULARY,
        "d_model": 8,
        "d_kv": 4,
        "d_ff": 12,
        "num_layers": 2,
        "num_decoder_layers": 3,
        "num_heads": 2,
        "decoder_start_token_id": 0,
    }
    return same_each_time(T5ForConditionalGeneration, T5Config(**sizes | config))


def bert(*, has_head: bool = True, **config: Any) -> PreTrainedModel:
    """An encoder of two blocks, as a classifier of three classes or without a head."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 16,
        "num_labels": 3,
    }
    kind = BertForSequenceClassification if has_head else BertModel
    return same_each_time(kind, BertConfig(**sizes | config))


def roberta(**config: Any) -> PreTrainedModel:
    """An encoder of two blocks whose head is a module of two layers."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 16,
        "num_labels": 3,
        "pad_token_id": 0,
    }
    return same_each_time(RobertaForSequenceClassification, RobertaConfig(**sizes | config))


def vit(**config: Any) -> PreTrainedModel:
    """A vision transformer of four blocks on four patches of a grey image of 4×4."""
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "image_size": 4,
        "patch_size": 2,
        "num_channels": 1,
    }
    return same_each_time(ViTForImageClassification, ViTConfig(**sizes | config))


def from_config(auto: Any, model_type: str, **config: Any) -> PreTrainedModel:
    """A model of any type that Transformers knows, by one of its classes ``AutoModelFor…``."""
    return same_each_time(auto.from_config, AutoConfig.for_model(model_type, **config))
