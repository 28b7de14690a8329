"""Supervised fine-tuning of a causal model on instructions.

Training, validation and test rows are cut out of one corpus. The headline is the likelihood of a
response's tokens, exp(-loss), so the best checkpoint is the one of the lowest loss on the rows held
out. What the model is worth in the papers' sense, its answers to other questions, is measured
afterwards (``training/answering.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from rankwise.core.errors import SettingsError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.tasks.answers import Answers
from rankwise.tasks.architectures import build_on_meta, word_tokenizer
from rankwise.tasks.duplicates import DUPLICATES
from rankwise.tasks.generation.causal_models import CausalBase
from rankwise.tasks.generation.corpora import CorpusCut
from rankwise.tasks.generation.definitions import CORPORA, METRICS, VERSION, Corpus
from rankwise.tasks.generation.encoding import encode_instructions
from rankwise.tasks.generation.instructions import Instruction
from rankwise.tasks.generation.prompts import Prompts, TemplateName
from rankwise.tasks.pretrained import Dtype
from rankwise.tasks.retention import Reading, remember_loss
from rankwise.tasks.splits import Batch, Rehearsal, Splits


@dataclass(frozen=True)
class GenerationTask:
    """One corpus and one model.

    Attributes:
        name: Of the corpus, as in ``corpora``.
        base: Where the model comes from.
        data_root: The data root with local files; None: the Hub.
        files: Local files that stand in for the corpus; none: its own.
        template: How instructions are put.
        rows: How many training rows; None: all that are not held out.
        held_out: Rows each of validation and test.
        split_seed: Seed of what is held out.
        max_length: Tokens of a row, prompt and response; the rest is cut, and counted.
        dtype: Of the model's weights.
    """

    name: str
    base: CausalBase
    data_root: Path | None = None
    files: tuple[str, ...] = ()
    template: TemplateName = "alpaca"
    rows: int | None = None
    held_out: int = 200
    split_seed: int = 0
    max_length: int = 512
    dtype: Dtype = "float32"

    metrics = METRICS
    version = VERSION
    target_modules = "all-linear"
    head_modules = ()
    evaluation_batch_size = 8
    is_retention_cheap = False

    @property
    def cut(self) -> CorpusCut:
        """Which rows are trained on and which are held out."""
        corpus, root = CORPORA[self.name], self.data_root
        return CorpusCut(corpus, root, self.files, self.rows, self.held_out, self.split_seed)

    @property
    def corpus(self) -> Corpus:
        """What is known of the data set."""
        return CORPORA[self.name]

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the model's own; shared by the process, not to be changed."""
        return self.base.tokenizer()

    def prompts(self) -> Prompts:
        """Return the prompt template for the model's tokenizer."""
        return Prompts(self.tokenizer(), self.template)

    def splits(self) -> Splits:
        """Return the rows as tokens; ``facts`` say how many were cut or left out.

        Raises:
            DataError: Rows are missing or broken.
            SettingsError: There are too few, or ``max_length`` is more than the model reads.
        """
        # The weights change nothing about the rows.
        return _splits(replace(self, dtype="float32"))

    def rehearse(self) -> Rehearsal:
        """Return the architecture without weights, and a made-up row."""
        config = self.base.config()
        row = Instruction("Say something.", "Something.")
        words = Prompts(word_tokenizer(["</s>"], config)).text([row.instruction])
        prompts = Prompts(word_tokenizer([words, row.response], config))
        rows = encode_instructions(prompts, [row], max_length=self.max_length).rows
        available = self.corpus.rows - 2 * self.held_out
        kind: Any = AutoModelForCausalLM
        model = build_on_meta(kind, config, self.dtype)
        return Rehearsal.of(model, rows, min(self.rows or available, available))

    def base_model(self, cache: Path) -> nn.Module:
        """Return the model that is adapted."""
        return self.base.model(cache, self.dtype)

    def remember(self, base: nn.Module) -> Reading:
        """Take down the loss on general text."""
        return remember_loss(base, self.tokenizer())

    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Read per row the log-likelihood of its response, beside its number of tokens."""
        sums, counts = response_likelihood(output["logits"], batch["labels"])
        return Answers(sums.tolist(), counts.tolist())


def response_likelihood(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return per row the sum of log p over the tokens that count, and their number.

    Args:
        logits: Shape (rows, length, vocabulary).
        labels: Shape (rows, length), -100 where a token does not count.
    """
    sums, counts = [], []
    for row, wanted in zip(logits[:, :-1], labels[:, 1:]):
        counted = wanted != IGNORED_LABEL
        # Only what counts is widened: the vocabulary may be large.
        scores = row[counted].float().log_softmax(dim=-1)
        sums.append(scores.gather(1, wanted[counted].unsqueeze(1)).sum())
        counts.append(counted.sum())
    return torch.stack(sums), torch.stack(counts)


@lru_cache(maxsize=2)
def _splits(task: GenerationTask) -> Splits:
    """Read and encode the rows; kept, because many runs of a process read the same."""
    prompts = task.prompts()
    limit = prompts.tokenizer.model_max_length
    if task.max_length > limit:
        raise SettingsError(
            f"task.max_length must be at most {limit}, what the model reads, got {task.max_length}"
        )
    (rows, source), parts = task.cut.read()
    known = {" ".join(rows[number].asked.split()) for number in parts.train}
    splits, facts = {}, {}
    for split, numbers in parts._asdict().items():
        chosen = [rows[number] for number in numbers]
        encoded = encode_instructions(prompts, chosen, max_length=task.max_length)
        splits[split] = encoded.rows
        facts[split] = {
            "rows": len(encoded.rows),
            "truncated": encoded.truncated,
            "left_out": encoded.left_out,
            "source": f"{len(numbers)} of the {len(rows)} rows of {source}",
        }
        if split != "train":
            asked = (" ".join(row.asked.split()) for row in chosen)
            facts[split][DUPLICATES] = sum(each in known for each in asked)
    return Splits(**splits, facts=facts)
