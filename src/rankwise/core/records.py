"""JSON files that are either whole or absent: all that Rankwise records goes through here.

A file is written beside its target and renamed over it, so a reader never sees half of it, whenever
the writer is killed. Each carries the version of its format, and a reader refuses one that is
newer. What a file holds is said by a :class:`Record`, against which it is checked when it is read.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rankwise.core.errors import AdapterError

FORMAT_VERSION = 1

Kind = TypeVar("Kind")


class Record(BaseModel):
    """Base of what is kept as JSON: frozen, every number finite, unknown keys passed over.

    A key that an older version did not write has a default, so that its files are read as before.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that :meth:`write` wrote.

        Raises:
            AdapterError: It is missing, damaged, of another kind, or written by a newer version.
        """
        return read_as(TypeAdapter(cls), path)

    def write(self, path: Path) -> None:
        """Write the record to ``path``, whole or not at all."""
        write_record(path, self.model_dump(mode="json"))


def read_as(kind: TypeAdapter[Kind], path: Path) -> Kind:
    """Read a file as ``kind``: a :class:`Record`, or a union of several.

    Raises:
        AdapterError: It is missing, damaged, of another kind, or written by a newer version.
    """
    content = read_record(path)
    try:
        return kind.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise AdapterError(
            f"{path} is damaged or of another kind ({place}: {first['msg']}): delete it and run "
            "again"
        ) from None


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
