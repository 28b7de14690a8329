"""Small GLUE files for tests, in the form of the real ones."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

MRPC_HEADER = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")


def mrpc_rows(count: int, text: str = "text") -> list[tuple[str, ...]]:
    """Rows whose texts say their number; every third one is a paraphrase."""
    return [
        (str(int(row % 3 == 0)), str(row), str(row), f"{text} {row}", f"other {text} {row}")
        for row in range(count)
    ]


def write_rows(file: Path, rows: Sequence[Sequence[str]], *, start: bytes = b"") -> Path:
    """Write ``rows``, the header among them, separated by tabs; gzipped if the name says so."""
    content = start + "".join("\t".join(row) + "\n" for row in rows).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def write_mrpc(root: Path, **counts: int) -> Path:
    """Write MRPC files with as many rows as ``counts`` says, by name of the file; return root."""
    for stem, count in counts.items():
        rows = [MRPC_HEADER, *mrpc_rows(count, stem)]
        write_rows(root / "glue" / "MRPC" / f"{stem}.tsv", rows)
    return root
