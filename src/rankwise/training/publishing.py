"""How a run leaves: as a plain LoRA or merged weights, compared before it is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import load_torch_model
from peft import PeftModel
from torch import Tensor, nn

from rankwise.capture.batches import to_device
from rankwise.core.accelerator import have_room
from rankwise.core.directories import draft_of
from rankwise.core.errors import AdapterError, SettingsError
from rankwise.core.modules import device_of
from rankwise.core.records import write_text
from rankwise.export.card import export_card
from rankwise.export.compressed import compress_directory
from rankwise.export.gguf import make_gguf_ready
from rankwise.export.loading import adapter_code, merged_code
from rankwise.export.lora import LoraExport, export_lora
from rankwise.export.merged import export_merged
from rankwise.export.serving import serving_notes
from rankwise.methods.adapters.directory import read_config
from rankwise.tasks.pretrained import torch_dtype
from rankwise.tasks.splits import Batch
from rankwise.tasks.table import TextTask
from rankwise.training.finished import FinishedRun
from rankwise.training.settings.run import RunSettings
from rankwise.training.settings.task import dtype_of

TOLERANCE = 1e-4
# Two orders of the same sums on weights of few digits end this many roundings apart.
ROUNDINGS = 8
Target = Literal["lora", "merged", "gguf-ready"]


@dataclass(frozen=True)
class Published:
    """What was written, and how its outputs compare.

    Attributes:
        lora: The directory, its rank, the largest relative difference of a layer's change, and what
            servers ask of it.
        rows: Rows on which the outputs were compared.
        largest_difference: max |logits - logits of the run's own model| / max |logits|.
        errors: Per layer that was compressed, the relative Frobenius error of its change.
    """

    lora: LoraExport
    rows: int
    largest_difference: float
    errors: dict[str, float]


def publish_lora(
    run: Path, directory: Path, *, rank: int | None = None, target: Target = "lora"
) -> Published:
    """Write the adapter of a finished run to ``directory`` as a plain LoRA, and check its outputs.

    ``rank`` compresses the change; its outputs then differ by as much as is lost, and are shown.

    Raises:
        AdapterError: The run cannot be read, or the outputs differ by more than ``_limit`` though
            nothing was compressed; then no directory is left.
        ModelError: The run has no adapter, or one that is no product of two factors.
        SettingsError: The directory is not empty, or ``rank`` is less than 1.
    """
    if rank is not None and rank < 1:
        raise SettingsError(f"--rank must be at least 1, got {rank}")
    with draft_of(directory) as draft:
        opened = FinishedRun.open(run)
        model = opened.trained_model()
        lora = export_lora(model, draft)
        errors = {} if rank is None else compress_directory(draft, rank)
        base: Any = opened.base_model()
        plain = PeftModel.from_pretrained(base, str(draft))
        limit = float("inf") if any(errors.values()) else _limit(opened.settings)
        rows, difference = _compared(model, plain, opened, limit=limit)
        # Only now: what is set apart takes its part in the outputs.
        apart = make_gguf_ready(draft) if target == "gguf-ready" else []
        notes = serving_notes(draft)
        # Without what was set apart it would be another model.
        dtype = dtype_of(opened.settings.task)
        code = None if apart else adapter_code(base, read_config(draft), dtype=dtype)
        found = _found(rows, difference)
        _write_card(opened, draft, target=target, found=found, code=code, notes=notes)
    written = lora.rank if rank is None else min(rank, lora.rank)
    lora = LoraExport(directory, written, lora.largest_difference, notes)
    return Published(lora, rows, difference, errors)


def publish_merged(run: Path, directory: Path) -> tuple[int, float]:
    """Write the full weights of a finished run, merged; return rows compared and the difference.

    Raises:
        AdapterError: The run cannot be read, or the outputs of what was written differ by more than
            ``_limit``; then no directory is left.
        ModelError: The run has no adapter.
        SettingsError: The directory is not empty.
    """
    with draft_of(directory) as draft:
        opened = FinishedRun.open(run)
        model = opened.trained_model()
        tokenizer = opened.task.tokenizer() if isinstance(opened.task, TextTask) else None
        export_merged(model, draft, tokenizer=tokenizer)
        base = opened.base_model()
        load_torch_model(base, draft, safe=True)
        rows, difference = _compared(model, base, opened, limit=_limit(opened.settings))
        code = merged_code(base, dtype=dtype_of(opened.settings.task))
        _write_card(opened, draft, target="merged", found=_found(rows, difference), code=code)
    return rows, difference


def _compared(
    model: nn.Module, other: nn.Module, run: FinishedRun, *, limit: float
) -> tuple[int, float]:
    rows, size = run.splits.validation, run.task.evaluation_batch_size
    if have_room(model, other):
        model, other = run.placed(model), run.placed(other)
    difference = _largest_difference(model, other, rows.batches(size))
    if difference is None:
        raise AdapterError(
            f"the outputs of {run.name} itself are not finite on its validation rows, so that "
            "nothing can be compared: nothing was exported; use another checkpoint, or weights of "
            "bfloat16 or float32"
        )
    if not difference <= limit:
        raise AdapterError(
            f"the outputs of the export differ from those of {run.name} by {difference:.1e} "
            f"of the largest logit, more than {limit:.0e}: nothing was exported"
        )
    return len(rows), difference


def _limit(settings: RunSettings) -> float:
    """Return how far outputs may differ: 1e-4 in float32, more where weights have fewer digits."""
    return max(TOLERANCE, ROUNDINGS * torch.finfo(torch_dtype(dtype_of(settings.task))).eps)


def _found(rows: int, difference: float) -> str:
    return (
        f"on {rows} validation rows the largest difference of a logit is {difference:.1e} "
        "of the largest logit"
    )


def _write_card(
    run: FinishedRun,
    directory: Path,
    *,
    target: Target,
    found: str,
    code: str | None,
    notes: Sequence[str] = (),
) -> None:
    record = run.record.model_dump(mode="json")
    record |= {"settings": run.settings.model_dump(mode="json")}
    card = export_card(record, target=target, found=found, code=code, notes=notes)
    write_text(directory / "README.md", card)


@torch.no_grad()
def _largest_difference(
    model: nn.Module, other: nn.Module, batches: Iterable[Batch]
) -> float | None:
    """Return max |logits - other logits| / max |logits|; None where the first are not finite."""
    largest, difference = 0.0, 0.0
    model.eval()
    other.eval()
    for batch in batches:
        logits = _outputs(model(**to_device(batch, device_of(model))))
        if not torch.isfinite(logits).all():
            return None
        others = _outputs(other(**to_device(batch, device_of(other)))).to(logits.device)
        found = float((others - logits).abs().max())
        # A value that is not finite must not be passed over by the comparison.
        difference = found if not found <= difference else difference
        largest = max(largest, float(logits.abs().max()))
    return difference / (largest or 1.0)


def _outputs(output: Any) -> Tensor:
    """Return what is compared: logits, or the likelihoods whose difference is a margin."""
    key = "log_likelihoods" if "log_likelihoods" in output else "logits"
    return output[key].float()
