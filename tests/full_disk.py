"""A disk that is full at a file that a test chooses, or from a size on."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError


class Disk:
    """Counts the files that are written in a folder, and refuses one of them.

    Args:
        folder: Below which files count.
        monkeypatch: Of the test.
        refused: The number of the file that is refused, from 1; 0: none.
        number: Why; that of the system.
    """

    def __init__(
        self, folder: Path, monkeypatch, *, refused: int = 0, number: int = errno.ENOSPC
    ) -> None:
        self.folder, self.refused, self.files = folder.resolve(), refused, 0
        opened, serialized = io.open, safetensors.torch.serialize_file
        saved, reason = torch.save, os.strerror(number)

        def open_(file, mode="r", *arguments, **options):
            if not isinstance(file, int) and set(mode) & set("wax+"):
                self._take(file, OSError(number, reason, str(file)))
            return opened(file, mode, *arguments, **options)

        # As test_disk.py sees them: safetensors quotes the system, torch says nothing of a reason.
        def serialize_file(tensors, file, *arguments, **options):
            quoted = f"I/O error: {reason} (os error {number})"
            self._take(file, SafetensorError(f"Error while serializing: {quoted}"))
            return serialized(tensors, file, *arguments, **options)

        def save(content, file, *arguments, **options):
            told = "PytorchStreamWriter failed writing file data/0: file write failed"
            if isinstance(file, str | Path):
                self._take(file, RuntimeError(f"[enforce fail at inline_container.cc:1] . {told}"))
            return saved(content, file, *arguments, **options)

        monkeypatch.setattr("builtins.open", open_)
        monkeypatch.setattr(io, "open", open_)
        monkeypatch.setattr(safetensors.torch, "serialize_file", serialize_file)
        monkeypatch.setattr(torch, "save", save)

    def _take(self, file, error: Exception) -> None:
        if self.folder in Path(file).resolve().parents:
            self.files += 1
            if self.files == self.refused:
                raise error


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` bytes, as on a full disk; print nothing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
