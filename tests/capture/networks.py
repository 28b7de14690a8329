"""Models of a few hundred weights, in float64, and batches for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

VOCABULARY = 17


class Classifier(nn.Module):
    """Two linear layers; returns its mean loss in a plain dictionary."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 6)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.head(self.dropout(torch.tanh(self.hidden(x))))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def classifier(dropout: float = 0.0) -> Classifier:
    torch.manual_seed(0)
    return Classifier(dropout).double()


def points(rows: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "x": torch.randn(rows, 4, generator=generator, dtype=torch.float64),
        "labels": torch.randint(3, (rows,), generator=generator),
    }


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        attention_dropout=0.1,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).double()


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=8,
        n_layer=1,
        n_head=2,
        n_positions=8,
        bos_token_id=1,
        eos_token_id=1,
        initializer_range=0.5,
    )
    return GPT2LMHeadModel(config).double()


def t5() -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=8,
        d_kv=4,
        d_ff=12,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config).double()


def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=8,
        num_labels=3,
    )
    return BertForSequenceClassification(config).double()


def sentences(rows: int) -> dict[str, Tensor]:
    """Token sequences of lengths 3 to 6, padded on the right; the padding has label -100."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(1, VOCABULARY, (rows, 6), generator=generator)
    lengths = torch.randint(3, 7, (rows, 1), generator=generator)
    mask = torch.arange(6) < lengths
    return {
        "input_ids": tokens * mask,
        "attention_mask": mask.long(),
        "labels": torch.where(mask, tokens, -100),
    }


def split(batch: dict[str, Tensor], *sizes: int) -> list[dict[str, Tensor]]:
    """Cut one batch into batches of the given sizes."""
    columns = {name: column.split(sizes) for name, column in batch.items()}
    return [{name: parts[i] for name, parts in columns.items()} for i in range(len(sizes))]
