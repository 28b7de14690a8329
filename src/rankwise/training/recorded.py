"""What is done already, by the files of a run: read without a model, so also without torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rankwise.core.errors import AdapterError
from rankwise.training.folder import RunFolder
from rankwise.training.records import RetentionRecord, RunRecord, TestResult, read_run


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
    if not folder.test.exists():
        return None
    result = TestResult.read(folder.test)
    _check_adapter(result.adapter_digest, folder, file=folder.test, what="score")
    return result


def recorded_retention(folder: RunFolder) -> RetentionRecord | None:
    """Return what was measured before of the base's knowledge, or None.

    Raises:
        AdapterError: What was measured is not the adapter that is here now.
    """
    if not folder.retention.exists():
        return None
    result = RetentionRecord.read(folder.retention)
    _check_adapter(result.adapter_digest, folder, file=folder.retention, what="retention")
    return result


def _check_adapter(digest: str | None, folder: RunFolder, *, file: Path, what: str) -> None:
    if digest not in (None, adapter_digest(folder.adapter)):
        raise AdapterError(
            f"{file} is the {what} of another adapter than the one in {folder.adapter}: "
            f"delete the {what} to take it anew"
        )


def adapter_digest(folder: Path) -> str:
    """Return the SHA-256 digest of the tensors saved in ``folder``."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(f"{file.relative_to(folder)}\n".encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
