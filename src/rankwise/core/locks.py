"""A folder for one command at a time: two that write the same files would spoil each other's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from rankwise.core.disk import complaint_of_disk
from rankwise.core.errors import SettingsError

LOCK = "rankwise.lock"


@contextlib.contextmanager
def sole_use(folder: Path, *, wait_seconds: float = 0) -> Iterator[None]:
    """Keep others out of ``folder`` meanwhile; a process that dies lets go of it.

    The folder is made; one that is still empty at the end is not left behind, nor is the lock.
    Whoever is there has ``wait_seconds`` to leave.

    Raises:
        SettingsError: Another command is at work there, or nothing can be written there.
    """
    file = folder / LOCK
    lock = FileLock(file, timeout=wait_seconds)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise SettingsError(
            f"another command of Rankwise is at work in {folder}: wait for it, or choose another "
            "folder with --output"
        ) from None
    except OSError as error:
        complaint = complaint_of_disk(error) or str(error)
        raise SettingsError(
            f"nothing can be written in {folder} ({complaint}): choose another folder with --output"
        ) from None
    try:
        yield
    finally:
        # Before others may take it: whoever comes now makes a new one.
        file.unlink(missing_ok=True)
        lock.release()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def check_is_free(folder: Path) -> None:
    """Refuse a folder in which another command is at work; nothing is made.

    Raises:
        SettingsError: One is.
    """
    if (folder / LOCK).exists():
        with sole_use(folder):
            pass
