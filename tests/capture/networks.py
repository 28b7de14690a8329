"""The tiny models in float64, with dropout where they have it and weights that matter."""

from __future__ import annotations

from functools import partial

from torch import nn

from tests.models import architectures, batches
from tests.models.networks import Perceptron

sentences = partial(batches.sentences, has_labels=True)


def classifier(dropout: float = 0.0) -> Perceptron:
    return architectures.same_each_time(Perceptron, dropout).double()


def llama() -> nn.Module:
    sizes = {"num_hidden_layers": 2, "attention_dropout": 0.1, "initializer_range": 0.5}
    return architectures.llama(**sizes).double()


def gpt2() -> nn.Module:
    return architectures.gpt2(n_layer=1, n_positions=8, initializer_range=0.5).double()


def t5() -> nn.Module:
    return architectures.t5(num_layers=1, num_decoder_layers=1).double()


def bert() -> nn.Module:
    return architectures.bert(num_hidden_layers=1, max_position_embeddings=8).double()
