"""Directories that appear under their name whole or not at all.

What is written goes to a hidden directory beside the target, on the same disk, and is renamed at
the end. A process that is killed leaves at most that hidden one behind.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rankwise.core.errors import SettingsError


@contextlib.contextmanager
def draft_of(directory: Path) -> Iterator[Path]:
    """Give a path, free to be made a directory; at the end it becomes ``directory``.

    After an exception it is gone, and ``directory`` is as it was. The folders above it are made.

    Raises:
        SettingsError: ``directory`` is a file, a link, or not empty; or it was filled meanwhile.
    """
    _check_free(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".draft-") as temporary:
        draft = Path(temporary) / directory.name
        yield draft
        _check_free(directory)
        os.replace(draft, directory)


def _check_free(directory: Path) -> None:
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise SettingsError(f"{directory} is not a directory: choose another one")
    if directory.exists() and any(directory.iterdir()):
        raise SettingsError(f"{directory} is not empty: choose a new directory")
