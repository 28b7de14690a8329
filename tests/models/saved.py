"""Real architectures of a few kilobytes, with a real tokenizer trained on a few words."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tests.models.architectures import bert, llama, t5, vit

SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>", "cls_token": "<s>"}


def make_tokenizer(texts: Iterable[str], *, limit: int = 64) -> PreTrainedTokenizerFast:
    """Train byte-level BPE on ``texts``; a row ends with the end token, a pair has one between."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(SPECIAL.values()), initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    end = ("</s>", tokenizer.token_to_id("</s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[end]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=limit, **SPECIAL)


def make_bert(folder: Path, texts: Iterable[str]) -> str:
    """Write a BERT of two blocks and its tokenizer, and return its name for ``task.model``."""
    tokenizer = make_tokenizer(texts)
    model = bert(
        has_head=False,
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        max_position_embeddings=64,
        # Without chance, so that two ways to the same batch can be held against each other.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return _save(model, tokenizer, folder)


def make_t5(
    folder: Path, texts: Iterable[str], *, gated: bool, layers: int = 2, decoder_layers: int = 2
) -> str:
    """Write a T5 and its tokenizer, and return its name for ``task.model``."""
    tokenizer = make_tokenizer(texts, limit=512)
    model = t5(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=layers,
        num_decoder_layers=decoder_layers,
        feed_forward_proj="gated-gelu" if gated else "relu",
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    return _save(model, tokenizer, folder)


def make_llama(
    folder: Path, texts: Iterable[str], *, positions: int = 512, has_pad: bool = True
) -> str:
    """Write a Llama of two blocks and its tokenizer, and return its name for ``task.model``."""
    tokenizer = make_tokenizer(texts, limit=positions)
    if not has_pad:
        tokenizer.pad_token = None
    model = llama(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_key_value_heads=1,
        max_position_embeddings=positions,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return _save(model, tokenizer, folder)


def make_vit(folder: Path, *, side: int = 16, classes: int = 2) -> str:
    """Write a ViT of two layers on patches of 8×8 pixels; return its name for ``task.model``."""
    model = vit(
        image_size=side,
        patch_size=8,
        num_channels=3,
        hidden_size=16,
        num_hidden_layers=2,
        intermediate_size=32,
        num_labels=classes,
    )
    return _save(model, ViTImageProcessorPil(size={"height": side, "width": side}), folder)


def _save(model: PreTrainedModel, preparing: Any, folder: Path) -> str:
    """Write a model and its tokenizer or its image processor."""
    model.save_pretrained(folder)
    preparing.save_pretrained(folder)
    return str(folder)
