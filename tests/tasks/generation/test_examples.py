"""Local files, of one object a line or in one array: what is wrong is named with its place."""

from __future__ import annotations

import gzip

import pytest

from rankwise.core.errors import DataError
from rankwise.tasks.generation.examples import Example, find_file, read_examples


def test_plain_and_packed_files_read_alike(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": "1"}\n\n{"x": "2"}\n')
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write('{"x": "1"}\n\n{"x": "2"}\n')
    plain, packed = (read_examples(find_file(tmp_path, stem)) for stem in "ab")
    assert [line.content for line in plain] == [line.content for line in packed]
    assert [line.place for line in plain] == ["a.jsonl, line 1", "a.jsonl, line 3"]


@pytest.mark.parametrize("packed", [False, True])
def test_an_array_reads_as_lines_do(tmp_path, packed):
    text = '\ufeff[{"x": "1"},\n {"x": "2"}]'.encode()
    path = tmp_path / ("a.json.gz" if packed else "a.json")
    path.write_bytes(gzip.compress(text) if packed else text)
    examples = read_examples(find_file(tmp_path, "a"), name="mine")
    assert [example.content for example in examples] == [{"x": "1"}, {"x": "2"}]
    assert [example.place for example in examples] == ["mine, row 1", "mine, row 2"]


def test_lines_under_the_ending_of_an_array_are_read_too(tmp_path):
    (tmp_path / "a.json").write_text('{"x": "1"}\n{"x": "2"}\n')
    assert len(read_examples(tmp_path / "a.json")) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", r"a\.json, row 1 must be a JSON object, got int"),
        (b'[{"x": 1}', r"a\.json is not valid JSON"),
        (b"[]", r"a\.json holds no rows"),
        (b"[" * 100_000, r"a\.json is not valid JSON"),
    ],
)
def test_a_broken_array_is_named(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_examples(tmp_path / "a.json")


def test_the_first_name_that_exists_is_taken(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "test.json").write_text("[]")
    assert find_file(tmp_path, ("a/test", "b/test")) == tmp_path / "b" / "test.json"
    with pytest.raises(DataError, match=r"no a/test, c/test"):
        find_file(tmp_path, ("a/test", "c/test"))


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
        read_examples(tmp_path / "a.jsonl")


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"x": 1}\n' * 999)[:-20])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz cannot be read \("):
        read_examples(path)


def test_a_missing_file_is_named_with_what_is_there(tmp_path):
    (tmp_path / "dev.jsonl").touch()
    with pytest.raises(DataError, match=r"no train \(\.jsonl, .*\) below .* holds dev\.jsonl"):
        find_file(tmp_path, "train")


def test_a_column_without_text_is_named():
    line = Example({"x": " ", "y": 1}, "f, line 3")
    with pytest.raises(DataError, match="f, line 3: 'x' is empty"):
        line.text("x")
    with pytest.raises(
        DataError, match=r"f, line 3: expected text in 'y', got 1 \(columns: x, y\)"
    ):
        line.text("y")
    with pytest.raises(DataError, match="f, line 3: expected a list of texts in 'x', got ' '"):
        line.texts("x")
