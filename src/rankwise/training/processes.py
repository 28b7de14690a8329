"""Several processes that train one run, as ``torchrun`` and ``accelerate launch`` start them.

All of them build the run and start its adapter, each for itself and alike, before they meet: the
Trainer then wraps the model in DDP and gives each its share of every batch. One of them, the main
one, writes; where it fails, the launcher ends the others.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock
from torch import distributed

from rankwise.core.errors import SettingsError
from rankwise.training.initialization import needs_reference
from rankwise.training.settings.run import RunSettings


def number_of_processes() -> int:
    """Return how many processes the launcher has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Tell whether this is the process that writes."""
    return os.environ.get("RANK", "0") == "0"


def check_processes(settings: RunSettings) -> None:
    """Refuse runs that several processes cannot share.

    Raises:
        SettingsError: Naming the setting, and what to set.
    """
    count = number_of_processes()
    if count == 1:
        return
    training = settings.training
    if training.loop == "lean":
        raise SettingsError(
            f"training.loop is 'lean', which trains in one process, and there are {count}: set "
            "training.loop to 'trainer', or start one process"
        )
    if training.batch_size % count:
        raise SettingsError(
            f"training.batch_size is {training.batch_size}, which {count} processes cannot share "
            f"evenly: set a multiple of {count}"
        )
    if needs_reference(settings.method):
        raise SettingsError(
            "method.init.reference is 'task': its reference is trained in one process. Train it "
            "there, and give its adapter as method.init.reference"
        )
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() in ("1", "true"):
        raise SettingsError(
            "DeepSpeed ZeRO shards or copies what adapters, inits and folds read and write: launch "
            "with DDP (torchrun, or accelerate launch --multi_gpu)"
        )
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true"):
        raise SettingsError(
            "rankwise train shards no weights: launch with DDP (torchrun, or accelerate launch "
            "--multi_gpu); in a loop of your own FSDP2's fully_shard works (docs/scaling.md)"
        )


@contextlib.contextmanager
def one_after_another(folder: Path) -> Iterator[None]:
    """Let one process at a time in, so that what the first makes in ``folder`` the others find."""
    if number_of_processes() == 1:
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        yield


def part_ways() -> None:
    """End what the Trainer has begun among the processes: from here on one goes on alone."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
