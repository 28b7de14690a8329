"""What is done already, by the files of a run: read without a model, so also without torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

from rankwise.core.errors import AdapterError
from rankwise.training.folder import RunFolder
from rankwise.training.records import RetentionRecord, RunRecord, TestResult, read_run

Result = TypeVar("Result", TestResult, RetentionRecord)


def finished_record(folder: RunFolder) -> RunRecord | None:
    """Return the record of a run that came to its end; None if there is none, or if it failed.

    Raises:
        AdapterError: The record is damaged, or written by a newer version.
    """
    if not folder.record.exists():
        return None
    record = read_run(folder.record)
    return record if isinstance(record, RunRecord) else None


def recorded_test(folder: RunFolder) -> TestResult | None:
    """Return the score on test that was taken before, or None.

    Raises:
        AdapterError: What was scored is not the adapter that is here now.
    """
    return _recorded(TestResult, folder.test, folder, what="score")


def recorded_retention(folder: RunFolder) -> RetentionRecord | None:
    """Return what was measured before of the base's knowledge, or None.

    Raises:
        AdapterError: What was measured is not the adapter that is here now.
    """
    return _recorded(RetentionRecord, folder.retention, folder, what="retention")


def _recorded(kind: type[Result], file: Path, folder: RunFolder, *, what: str) -> Result | None:
    if not file.exists():
        return None
    result = kind.read(file)
    if result.adapter_digest not in (None, adapter_digest(folder.adapter)):
        raise AdapterError(
            f"{file} is the {what} of another adapter than the one in {folder.adapter}: "
            f"delete the {what} to take it anew"
        )
    return result


def adapter_digest(folder: Path) -> str:
    """Return the SHA-256 digest of the tensors saved in ``folder``."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(f"{file.relative_to(folder)}\n".encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
