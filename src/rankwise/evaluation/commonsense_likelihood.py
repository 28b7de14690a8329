"""Options chosen by their likelihood: the model writes nothing, it only weighs the answers.

Of each option the probability of the whole answer after the prompt is taken, log p summed over its
tokens and its end. The options of one question differ in few tokens, so no length is divided out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rankwise.capture.batches import to_device
from rankwise.core.labels import IGNORED_LABEL
from rankwise.core.modules import device_of, in_eval_mode
from rankwise.tasks.generation.task import response_likelihood
from rankwise.tasks.tokens import TokenSplit

Answer = tuple[Sequence[int], int]


@torch.no_grad()
def answer_likelihoods(
    model: nn.Module, answers: Sequence[Answer], *, batch_size: int = 16, padding: int = 0
) -> Tensor:
    """Return log p of each answer after its prompt, float32 of shape (answers,).

    Args:
        model: A causal language model; its mode is restored.
        answers: Pairs of all tokens, prompt and answer, and the number of those of the prompt.
        batch_size: Answers at once; those of like lengths share a batch.
        padding: The token that fills rows up.
    """
    tokens = [list(row) for row, _ in answers]
    labels = [[IGNORED_LABEL] * start + list(row[start:]) for row, start in answers]
    rows = TokenSplit({"input_ids": tokens}, labels, padding={"input_ids": padding})
    found = torch.zeros(len(answers))
    with in_eval_mode(model):
        for index in torch.tensor([len(row) for row in tokens]).argsort().split(batch_size):
            batch = to_device(rows.take(index), device_of(model))
            wanted = batch.pop("labels")
            found[index] = response_likelihood(model(**batch)["logits"], wanted)[0].cpu()
    return found


def likeliest(likelihoods: Tensor, counts: Sequence[int]) -> list[int]:
    """Return for each question the number of its likeliest option.

    ``likelihoods`` lists the options of all questions one after the other, ``counts`` how many each
    question has.

    >>> likeliest(torch.tensor([-1.0, -2.0, -9.0, -8.0, -7.0]), [2, 3])
    [0, 2]
    """
    return [int(each.argmax()) for each in likelihoods.split(list(counts))]
