"""GLUE as its papers on encoders have it: a fresh classification head, or one regression output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft.utils.constants import SEQ_CLS_HEAD_NAMES
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from rankwise.tasks.answers import Answers, largest_logit, single_output
from rankwise.tasks.glue.examples import Example
from rankwise.tasks.glue.task import GlueTask
from rankwise.tasks.pretrained import class_options
from rankwise.tasks.retention import Reading, remember_features
from rankwise.tasks.splits import Batch


class GlueClasses(GlueTask):
    """Sequence classification; STS-B is a regression on its score from 0 to 5."""

    is_retention_cheap = False

    @property
    def head_modules(self) -> tuple[str, ...]:
        return tuple(SEQ_CLS_HEAD_NAMES)

    @property
    def auto_class(self) -> Any:
        return AutoModelForSequenceClassification

    @property
    def is_regression(self) -> bool:
        return self.definition.kind == "regression"

    @property
    def model_options(self) -> dict[str, Any]:
        """What the model's configuration has to say about the head."""
        if self.is_regression:
            return {"num_labels": 1, "problem_type": "regression"}
        problem = {"problem_type": "single_label_classification"}
        return class_options(self.definition.labels) | problem

    def remember(self, base: nn.Module) -> Reading:
        """Take down the features of general text."""
        return remember_features(base, self.tokenizer())

    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Read the class of the largest logit, or the score."""
        return (single_output if self.is_regression else largest_logit)(output, batch)

    def texts(self, example: Example) -> tuple[str, ...]:
        """Return the sentence or the pair of sentences: the tokenizer sets them apart."""
        return example.texts

    def labels(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> Tensor:
        """Return the classes, int64, or the scores, float32, of shape (rows,)."""
        dtype = torch.float32 if self.is_regression else torch.int64
        return torch.tensor([example.label for example in examples], dtype=dtype)
