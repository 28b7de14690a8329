"""JSON files that are either whole or absent: all that Rankwise records goes through here.

A file is written beside its target and renamed over it, so a reader never sees half of it, whenever
the writer is killed. Each carries the version of its format, and a reader refuses one that is
newer.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rankwise.core.errors import AdapterError

FORMAT_VERSION = 1


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, creating the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named by process, so that two writers of one file do not meet in its temporary one.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` as JSON with the format version; what is not finite is refused."""
    text = json.dumps({"format_version": FORMAT_VERSION, **content}, indent=2, allow_nan=False)
    write_text(path, text + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """Read what :func:`write_record` wrote.

    Raises:
        AdapterError: The file is missing, is not a JSON object, or was written by a newer version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AdapterError(f"no record at {path}: check the path") from None
    except OSError as error:
        raise AdapterError(f"{path} cannot be read ({error}): check the path") from None
    except (ValueError, RecursionError) as error:  # also bad UTF-8 and integers without end
        raise AdapterError(f"{path} is not valid JSON ({error}): delete it and run again") from None
    if not isinstance(content, dict):
        raise AdapterError(f"{path} must hold a JSON object, got {type(content).__name__}")
    version = content.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise AdapterError(
            f"{path} has format version {version!r}, this Rankwise reads {FORMAT_VERSION}: "
            "install the version that wrote it"
        )
    return content
