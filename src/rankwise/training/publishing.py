"""A run's adapter as a plain LoRA directory, whose outputs are compared before it is kept."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor, nn

from rankwise.core.errors import AdapterError
from rankwise.export.lora import LoraExport, export_lora
from rankwise.tasks.splits import TensorSplit
from rankwise.training.build import build_task
from rankwise.training.scoring import open_run, trained_model

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Published:
    """What was written, and how its outputs compare.

    Attributes:
        lora: The directory, its rank, and the largest relative difference of a layer's change.
        rows: Rows on which the outputs were compared.
        largest_difference: max |logits - logits of the run's own model| / max |logits|.
    """

    lora: LoraExport
    rows: int
    largest_difference: float


def publish_lora(run: Path, directory: Path) -> Published:
    """Write the adapter of a finished run to ``directory`` as a plain LoRA, and check its outputs.

    Raises:
        AdapterError: The run cannot be read, or the outputs differ by more than 1e-4; then no
            directory is left.
        ModelError: The run has no adapter, or one that is no product of two factors.
        SettingsError: The directory is not empty.
    """
    settings, folder = open_run(run)
    model = trained_model(settings, folder)
    task = build_task(settings.task)
    lora = export_lora(model, directory)
    rows = task.splits().validation
    plain = PeftModel.from_pretrained(task.base_model(folder.base), str(directory))
    difference = _largest_difference(model, plain, rows)
    if not difference <= TOLERANCE:
        shutil.rmtree(directory)
        raise AdapterError(
            f"the outputs of {directory} differ from those of {run} by {difference:.1e} of the "
            f"largest logit, more than {TOLERANCE:.0e}: nothing was exported"
        )
    return Published(lora, len(rows), difference)


@torch.no_grad()
def _largest_difference(model: nn.Module, other: nn.Module, rows: TensorSplit) -> float:
    logits = _logits(model, rows)
    return float((_logits(other, rows) - logits).abs().max() / logits.abs().max())


def _logits(model: nn.Module, rows: TensorSplit) -> Tensor:
    model.eval()
    return torch.cat([model(**batch)["logits"] for batch in rows.batches(1024)])
