"""Direct preference optimization as a model's own loss (Rafailov et al. 2023, arXiv 2305.18290).

The model is given pairs of completions and returns the margin of each, Eq. 7 of the paper:

    β [log π(chosen) − log π(rejected) − (log π₀(chosen) − log π₀(rejected))]

with π₀ the pretrained model, whose part is computed once. The loss is −log σ(margin), which is the
logistic loss of "the first is better". So inits, chains and both loops see it like any other; that
it is TRL's, ``tests/training/test_preference_runs.py`` holds against ``DPOTrainer``.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional

from rankwise.core.errors import DataError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.core.modules import device_of, in_eval_mode
from rankwise.core.records import write_text
from rankwise.tasks.own.pair_tokens import PairRows

_RATIOS = TypeAdapter(list[float])


class PairedForward:
    """The ``forward`` of a causal model that is given pairs; without ``pairs`` it is the plain one.

    It is an object, and no function, so that a copy of the model has a copy of it.

    Args:
        plain: The model's own ``forward``.
        reference: log π₀(chosen) − log π₀(rejected) by the number of the pair, float32.
        beta: β.
    """

    def __init__(self, plain: Any, reference: Tensor, beta: float) -> None:
        functools.update_wrapper(self, plain)
        self.plain, self.reference, self.beta = plain, reference, beta

    def __call__(self, *args: Any, pairs: Tensor | None = None, **inputs: Any) -> Any:
        """Return ``loss``, ``logits``, the margins of shape (n,), and ``log_likelihoods`` (n, 2).

        The batch is as :class:`PairRows` makes it.
        """
        if pairs is None:
            return self.plain(*args, **inputs)
        labels, targets = inputs.pop("labels"), inputs.pop("targets")
        for name in ("input_ids", "attention_mask"):
            if inputs.get(name) is not None:
                inputs[name] = inputs[name].flatten(0, 1)
        logits = self.plain(**inputs, use_cache=False)["logits"]
        sums = log_likelihoods(logits, targets.flatten(0, 1)).unflatten(0, (-1, 2))
        reference = self.reference.to(sums.device)[pairs]
        margins = self.beta * (sums[:, 0] - sums[:, 1] - reference)
        loss = functional.binary_cross_entropy_with_logits(margins, labels)
        return {"loss": loss, "logits": margins, "log_likelihoods": sums}


def log_likelihoods(logits: Tensor, targets: Tensor) -> Tensor:
    """Return per row Σ log p over the tokens that count, float32 of shape (rows,).

    Args:
        logits: Shape (rows, length, vocabulary).
        targets: Shape (rows, length), -100 where a token does not count.
    """
    scores, wanted = logits[:, :-1].float(), targets[:, 1:]
    counted = wanted != IGNORED_LABEL
    found = scores.gather(-1, wanted.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (found - scores.logsumexp(dim=-1)).masked_fill(~counted, 0.0).sum(dim=-1)


def compare_pairs(model: Any, reference: Tensor, *, beta: float) -> None:
    """Give ``model`` the loss on pairs, in place."""
    model.forward = PairedForward(model.forward, reference, beta)


def find_reference(
    model: Any, splits: list[PairRows], cache: Path, *, batch_size: int, said: str
) -> Tensor:
    """Return log π₀(chosen) − log π₀(rejected) of all pairs of ``splits``, float32.

    They are kept in ``cache``, by the rows, the weights and ``said``, which names all else on
    which they depend, so that runs share them.

    Raises:
        DataError: What is kept is damaged.
    """
    file = cache / f"reference-{_digest(model, splits, said)}.json"
    if file.is_file():
        return _kept(file, rows=sum(len(rows) for rows in splits))
    found = torch.cat([_log_ratios(model, rows, batch_size=batch_size) for rows in splits])
    cache.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(found.tolist()))
    return found


def _kept(file: Path, *, rows: int) -> Tensor:
    try:
        found = _RATIOS.validate_json(file.read_bytes())
    except (OSError, ValidationError):
        found = []
    if len(found) != rows:
        raise DataError(
            f"{file} is damaged: remove it, and the reference is asked for its likelihoods again"
        )
    return torch.tensor(found)


@torch.no_grad()
def _log_ratios(model: nn.Module, rows: PairRows, *, batch_size: int) -> Tensor:
    plain: Any = model.forward
    forward, place = PairedForward(plain, torch.zeros(1), 1.0), device_of(model)
    ratios = torch.empty(len(rows))
    with in_eval_mode(model):
        for index in torch.tensor(rows.lengths).argsort(stable=True).split(batch_size):
            batch = {name: each.to(place) for name, each in rows.take(index).items()}
            batch["pairs"] = torch.zeros_like(batch["pairs"])
            sums = forward(**batch)["log_likelihoods"]
            ratios[index] = (sums[:, 0] - sums[:, 1]).cpu()
    return ratios


def _digest(model: nn.Module, splits: list[PairRows], said: str) -> str:
    digest = hashlib.sha256(said.encode())
    for rows in splits:
        digest.update(rows.digest)
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {parameter.detach().double().sum().item()!r}".encode())
    return digest.hexdigest()[:16]
