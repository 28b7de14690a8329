"""GLUE as text to text, in the form of ABM-LoRA's released code: T5 writes the label's word.

Input: the instruction, the texts joined by a line break, a line break, and ``result: ``. The answer
is one of the task's words; for STS-B the score rounded to 0.2, as T5 has it (Raffel et al. 2020,
arXiv 1910.10683, Section 2.4). An output that is none of them counts as wrong, and is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerBase

from rankwise.core.errors import ModelError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.tasks.answers import Answers, Value
from rankwise.tasks.glue.definitions import HIGHEST_SCORE, LOWEST_SCORE, SCORES
from rankwise.tasks.glue.examples import Example
from rankwise.tasks.glue.task import GlueTask
from rankwise.tasks.pretrained import load_tokenizer
from rankwise.tasks.splits import Batch


class GlueText(GlueTask):
    """Text to text: the model reads an instruction and the texts, and writes the label."""

    writes = True
    writing_batch_size = GlueTask.evaluation_batch_size

    @property
    def auto_class(self) -> Any:
        return AutoModelForSeq2SeqLM

    @cached_property
    def _tokens_of_labels(self) -> dict[Value, list[int]]:
        return self.label_tokens(load_tokenizer(self.model))

    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Let the model write, greedily, and look its words up among the labels."""
        tokens = self._tokens_of_labels
        by_tokens = {tuple(ids): label for label, ids in tokens.items()}
        written: Tensor = model.generate(  # type: ignore[operator]
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            # One more than the longest label, so that a word which goes on is seen to do so.
            max_new_tokens=max(map(len, tokens.values())) + 1,
            do_sample=False,
            num_beams=1,
        )
        texts = load_tokenizer(self.model).batch_decode(written, skip_special_tokens=True)
        labels = [by_tokens[tuple(row[row != IGNORED_LABEL].tolist())] for row in batch["labels"]]
        return Answers([self.read(text) for text in texts], labels)

    def texts(self, example: Example) -> tuple[str, ...]:
        """Return the one text that the model reads."""
        return (self.definition.instruction + "\n".join(example.texts) + "\nresult: ",)

    def labels(
        self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
    ) -> list[list[int]]:
        """Return the tokens of the labels as they are written, with the end token."""
        tokens = self.label_tokens(tokenizer)
        return [tokens[self.written_label(example.label)] for example in examples]

    def label_tokens(self, tokenizer: PreTrainedTokenizerBase) -> dict[Value, list[int]]:
        """Return each label that can be written, and its tokens with the end token.

        Raises:
            ModelError: The tokenizer does not give a label's text back.
        """
        is_score = self.definition.kind == "regression"
        every: list[Value] = list(SCORES if is_score else range(len(self.definition.words)))
        texts = [self.label_text(label) for label in every]
        tokens: Any = tokenizer(texts)["input_ids"]
        for text, back in zip(texts, tokenizer.batch_decode(tokens, skip_special_tokens=True)):
            if back.strip() != text:
                raise ModelError(
                    f"the tokenizer of {self.model} turns the label {text!r} into {back!r}: "
                    "choose a --task.model whose vocabulary has it"
                )
        return dict(zip(every, tokens, strict=True))

    def written_label(self, label: Value) -> Value:
        """Return the label that is written for ``label``: a score is rounded to 0.2."""
        if self.definition.kind == "regression":
            return min(SCORES, key=lambda score: abs(score - label))
        return label

    def label_text(self, label: Value) -> str:
        """Return how a label is written."""
        if self.definition.kind == "regression":
            return f"{self.written_label(label):.1f}"
        return self.definition.words[int(label)]

    def read(self, text: str) -> Value | None:
        """Return the label that ``text`` is, or None if it is none."""
        word = text.strip()
        if self.definition.kind != "regression":
            words = self.definition.words
            return words.index(word) if word in words else None
        try:
            score = float(word)
        except ValueError:
            return None
        return score if LOWEST_SCORE <= score <= HIGHEST_SCORE else None
