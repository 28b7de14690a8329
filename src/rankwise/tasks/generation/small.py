"""A Llama of a few million parameters, trained from nothing on local texts in minutes.

It is a base for trying every path without a download. It reads the questions and answers of its
files as plain text, one after the other, but for those that the task holds out, and has not seen
the form of any prompt: that is left to the adapters. Its tokenizer is byte-level BPE, trained on
the same texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from rankwise.core.errors import SettingsError
from rankwise.core.seeds import derive_seed
from rankwise.tasks.data_root import required_data_root
from rankwise.tasks.generation.corpora import CorpusCut
from rankwise.tasks.generation.definitions import SMALL
from rankwise.tasks.generation.examples import find_file, read_examples
from rankwise.tasks.generation.instructions import read_instruction
from rankwise.tasks.kept_weights import keep_weights, take_weights
from rankwise.tasks.pretrained import Dtype, torch_dtype

_TIED = "lm_head.weight"  # the embedding's own, under another name
_PAD, _END = "<pad>", "</s>"
_CONTEXT = 1024


@dataclass(frozen=True)
class SmallBase:
    """The model, determined by its texts and these numbers.

    Attributes:
        root: The data root; None will do for the sizes alone.
        files: Its texts, names below the root without endings.
        cut: The corpus of which it reads no row that is held out; None reads all.
        vocabulary: Tokens.
        width: Of the hidden states.
        blocks: Transformer blocks.
        heads: Attention heads of each.
        steps: Of AdamW with a cosine schedule.
        batch_size: Rows of a step.
        length: Tokens of a row.
        learning_rate: The highest.
        seed: Of the start and the order.
    """

    root: Path | None
    files: tuple[str, ...]
    cut: CorpusCut | None = None
    vocabulary: int = 2048
    width: int = 192
    blocks: int = 4
    heads: int = 6
    steps: int = 300
    batch_size: int = 16
    length: int = 128
    learning_rate: float = 2e-3
    seed: int = 0

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return byte-level BPE on the texts: the same texts give the same tokens."""
        return _tokenizer(self.root, self.files, self.cut, self.vocabulary)

    def config(self) -> LlamaConfig:
        """Return the sizes."""
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=8 * self.width // 3,
            num_hidden_layers=self.blocks,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            max_position_embeddings=_CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=None,
            pad_token_id=0,
            eos_token_id=1,
        )

    def model(self, cache: Path, dtype: Dtype = "float32") -> nn.Module:
        """Return the trained model; trained once in float32, then read from ``cache``.

        Raises:
            ModelError: What is kept there is damaged.
        """
        texts = _texts(self.root, self.files, self.cut)
        numbers = (self.vocabulary, self.width, self.blocks, self.heads, self.steps)
        rest = (self.batch_size, self.length, str(self.learning_rate), self.seed)
        file = cache / f"small-{derive_seed(*texts, *numbers, *rest):016x}.safetensors"
        if not file.exists():
            self._make(file)
        kind: Any = AutoModelForCausalLM
        # Its start is drawn, and then overwritten.
        with torch.random.fork_rng(devices=[]):
            model = kind.from_config(self.config(), dtype=torch_dtype(dtype))
        take_weights(model, file, besides=(_TIED,))
        model.tie_weights()
        return model

    def _make(self, file: Path) -> None:
        """Train the weights and write them; the global random state stays."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "small-language"))
            model = LlamaForCausalLM(self.config())
            self._train(model, self._stream())
        state = model.state_dict()
        keep_weights({name: state[name] for name in state if name != _TIED}, file)

    def _stream(self) -> Tensor:
        """Return all texts as one row of tokens, an end after each, cut into rows of ``length``."""
        tokenizer = self.tokenizer()
        tokens: list[int] = []
        for row in tokenizer(list(_texts(self.root, self.files, self.cut)))["input_ids"]:  # type: ignore[union-attr]
            tokens += [*row, 1]  # type: ignore[misc]
        rows = len(tokens) // self.length
        return torch.tensor(tokens[: rows * self.length]).view(rows, self.length)

    def _train(self, model: nn.Module, rows: Tensor) -> None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.steps, pct_start=0.1
        )
        for _ in range(self.steps):
            batch = rows[torch.randint(len(rows), (self.batch_size,))]
            model(input_ids=batch, labels=batch).loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()


@lru_cache(maxsize=2)
def _texts(root: Path | None, files: tuple[str, ...], cut: CorpusCut | None) -> tuple[str, ...]:
    folder = required_data_root(root, task=f"model {SMALL}")
    if not files:
        raise SettingsError(
            f"the model {SMALL!r} is made from texts: name some in task.small.files"
        )
    examples = [
        each for stem in files for each in read_examples(find_file(folder, stem), name=stem)
    ]
    held_out = set() if cut is None else {row.asked for row in cut.held_out_rows()}
    rows = [row for row in map(read_instruction, examples) if row.asked not in held_out]
    return tuple(f"{row.instruction}\n{row.response}" for row in rows)


@lru_cache(maxsize=2)
def _tokenizer(
    root: Path | None, files: tuple[str, ...], cut: CorpusCut | None, vocabulary: int
) -> PreTrainedTokenizerBase:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[_PAD, _END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(root, files, cut), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        eos_token=_END,
        model_max_length=_CONTEXT,
    )
