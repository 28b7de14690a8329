"""Files of the user's own, of a few rows."""

from __future__ import annotations

import csv
import json
from pathlib import Path


def write_csv(file: Path, header: list[str], rows: list[list[object]], delimiter: str = ",") -> str:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([header, *rows])
    return str(file)


def write_jsonl(file: Path, rows: list[dict[str, object]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def reviews(count: int = 20) -> list[list[object]]:
    """Rows of a text and one of two labels, no two texts alike."""
    return [[f"film number {n} is fine", "good" if n % 2 else "bad"] for n in range(count)]
