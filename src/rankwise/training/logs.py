"""What a run leaves as text beside its record: a line an epoch, the scores on test, a step a row.

DeLoRA's released code leaves such logs; anything that reads text reads them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from rankwise.core.records import write_text
from rankwise.training.folder import RunFolder
from rankwise.training.records import CurvePoint, StepPoint


def line_of(point: CurvePoint, *, metric: str, steps_per_epoch: int) -> str:
    """Return what is to be said of a point of the learning curve.

    >>> point = CurvePoint(step=10, train_loss=0.5, validation_loss=0.25, validation_score=0.75)
    >>> line_of(point, metric="accuracy", steps_per_epoch=5)
    'epoch 2  step 10  train loss 0.5000  validation loss 0.2500  validation accuracy 0.7500'
    """
    words = [f"epoch {point.step // steps_per_epoch}", f"step {point.step}"]
    if point.train_loss is not None:
        words.append(f"train loss {point.train_loss:.4f}")
    words.append(f"validation loss {point.validation_loss:.4f}")
    words.append(f"validation {metric} {point.validation_score:.4f}")
    return "  ".join(words)


def write_curve(
    folder: RunFolder, curve: Sequence[CurvePoint], *, metric: str, steps_per_epoch: int
) -> None:
    """Write ``validation.log``: the curve, from the untrained model on."""
    lines = [line_of(each, metric=metric, steps_per_epoch=steps_per_epoch) for each in curve]
    write_text(folder.validation_log, "\n".join(lines) + "\n")


def write_steps(folder: RunFolder, steps: Sequence[StepPoint]) -> None:
    """Write ``steps.csv``, with a header; nothing where no step was logged."""
    if not steps:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(StepPoint.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(each.model_dump() for each in steps)
    write_text(folder.steps, text.getvalue())


def write_test_scores(folder: RunFolder, scores: Mapping[str, float]) -> None:
    """Write ``test.log``: each metric and its value."""
    lines = [f"test {name} {value:.4f}" for name, value in scores.items()]
    write_text(folder.test_log, "\n".join(lines) + "\n")
