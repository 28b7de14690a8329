"""Local files are read line by line, and what is wrong is told with its file and line."""

from __future__ import annotations

import gzip

import pytest

from rankwise.core.errors import DataError
from rankwise.tasks.generation.lines import Line, find_lines, read_lines


def test_plain_and_packed_files_read_alike(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": "1"}\n\n{"x": "2"}\n')
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write('{"x": "1"}\n\n{"x": "2"}\n')
    plain, packed = (read_lines(find_lines(tmp_path, stem)) for stem in "ab")
    assert [line.content for line in plain] == [line.content for line in packed]
    assert [line.place for line in plain] == ["a.jsonl, line 1", "a.jsonl, line 3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"x": 1}\n{"x": \n', r"a\.jsonl, line 2 is not valid JSON"),
        (b'{"x": 1}\n[1]\n', r"a\.jsonl, line 2 must be a JSON object, got list"),
        (b'{"x": 1}\n{"x": "\xff"}\n', r"a\.jsonl, line 2 is no UTF-8"),
        (b"\n", r"a\.jsonl holds no rows"),
    ],
)
def test_a_broken_line_is_named(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_lines(tmp_path / "a.jsonl")


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"x": 1}\n' * 999)[:-20])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz cannot be read after line \d+"):
        read_lines(path)


def test_a_missing_file_is_named_with_what_is_there(tmp_path):
    (tmp_path / "dev.jsonl").touch()
    with pytest.raises(DataError, match=r"no train\.jsonl or \.jsonl\.gz in .*, found dev\.jsonl"):
        find_lines(tmp_path, "train")


def test_a_column_without_text_is_named():
    line = Line({"x": " ", "y": 1}, "f, line 3")
    with pytest.raises(DataError, match="f, line 3: 'x' is empty"):
        line.text("x")
    with pytest.raises(
        DataError, match=r"f, line 3: expected text in 'y', got 1 \(columns: x, y\)"
    ):
        line.text("y")
    with pytest.raises(DataError, match="f, line 3: expected a list of texts in 'x', got ' '"):
        line.texts("x")
