"""Which GPU each worker of a comparison has for itself, and whether its memory holds so many."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from rankwise.core.cores import usable_cores
from rankwise.core.errors import SettingsError
from rankwise.training.folder import RunFolder, runs_below
from rankwise.training.recorded import finished_record

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_devices() -> list[str]:
    """Return the names of the GPUs that this process may use, as its environment has them."""
    count = torch.cuda.device_count()
    named = [name for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def devices_of_workers(
    workers: int | None, workers_per_gpu: int | None, *, devices: list[str]
) -> list[str | None]:
    """Return the device of each worker: ``workers_per_gpu`` on each, or no device without GPUs.

    By default there is one worker a GPU, and without GPUs one a core.

    Raises:
        SettingsError: There are more workers than the GPUs take, or no GPU for ``workers_per_gpu``.
    """
    if not devices:
        if workers_per_gpu is not None:
            raise SettingsError(
                f"--workers-per-gpu {workers_per_gpu} needs a GPU, but torch sees none: leave it "
                "out"
            )
        return [None] * (workers or usable_cores())
    room = len(devices) * (workers_per_gpu or 1)
    if workers is not None and workers > room:
        raise SettingsError(
            f"--workers {workers} on {len(devices)} GPUs with {workers_per_gpu or 1} worker each: "
            f"lower it to {room}, or let several share a GPU by --workers-per-gpu"
        )
    return [devices[number % len(devices)] for number in range(workers or room)]


def gpu_memory() -> int:
    """Return the bytes of the smallest of the visible GPUs."""
    count = torch.cuda.device_count()
    return min(torch.cuda.get_device_properties(number).total_memory for number in range(count))


def check_memory(output: Path, workers_per_gpu: int, *, total: int) -> None:
    """Refuse more workers on a GPU than its ``total`` bytes hold, by what runs here have taken.

    Without a finished run below ``output`` nothing is known, and nothing refused.

    Raises:
        SettingsError: Naming the run that took the most, and how many fit.
    """
    folders = sorted(path.parent for path in runs_below(output).glob("*/record.json"))
    records = [finished_record(RunFolder.below(output, each.name)) for each in folders]
    peaks = {record.run: record.peak_memory_bytes for record in records if record is not None}
    if not peaks:
        return
    run = max(peaks, key=lambda name: peaks[name])
    if workers_per_gpu * peaks[run] > total:
        raise SettingsError(
            f"--workers-per-gpu {workers_per_gpu} asks for {workers_per_gpu} times the "
            f"{peaks[run] / 1e9:.1f} GB that {run} took, and a GPU has {total / 1e9:.1f} GB: at "
            f"most {max(1, total // peaks[run])} fit"
        )
