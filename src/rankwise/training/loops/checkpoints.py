"""The Trainer's checkpoints, told whole from half-written by a mark that is written last.

A process that is killed while it writes or deletes a checkpoint leaves a part of one, under the
name that the Trainer would take for the newest.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints, sort_checkpoints

from rankwise.core.records import write_text

MARK = "complete"


def finish_checkpoint(folder: Path, step: int, *, keep: int, best: str | None) -> None:
    """Mark the checkpoint of ``step`` as whole, then delete all but the newest and ``best``.

    In that order: whenever the process dies, the newest checkpoint with a mark is whole.
    """
    write_text(folder / f"{PREFIX_CHECKPOINT_DIR}-{step}" / MARK, f"{step}\n")
    # By number: what is left of a deletion that was interrupted is the newest by its time.
    rotate_checkpoints(
        str(folder), save_total_limit=keep, best_model_checkpoint=best, use_mtime=False
    )


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest whole checkpoint in ``folder``, if any; newer parts of one are deleted."""
    if not folder.is_dir():
        return None
    for checkpoint in reversed(sort_checkpoints(str(folder))):
        if (Path(checkpoint) / MARK).is_file():
            return checkpoint
        shutil.rmtree(checkpoint)
    return None
