"""A record is whole or absent, and says by itself which version wrote it."""

from __future__ import annotations

import json

import pytest

from rankwise.core.errors import AdapterError
from rankwise.core.records import FORMAT_VERSION, read_record, write_record


def test_what_was_written_is_read_back(tmp_path):
    content = {"score": 0.5, "runs": ["a", "b"], "nothing": None}
    write_record(tmp_path / "deep" / "record.json", content)
    assert read_record(tmp_path / "deep" / "record.json") == content


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "record.json"
    write_record(file, {"score": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(file, {"score": float("nan")})
    assert read_record(file) == {"score": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_an_interrupted_rename_removes_the_temporary_file(tmp_path, monkeypatch):
    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_record(tmp_path / "record.json", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"score": ', "is not valid JSON"),
        ("[1, 2]", "must hold a JSON object, got list"),
        ('{"score": 1}', "has format version None"),
        (json.dumps({"format_version": FORMAT_VERSION + 1}), "install the version that wrote it"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path, text, message):
    file = tmp_path / "record.json"
    file.write_text(text)
    with pytest.raises(AdapterError, match=message):
        read_record(file)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "record.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AdapterError, match="is not valid JSON"):
        read_record(tmp_path / "record.json")


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(AdapterError, match=r"no record at .*gone\.json"):
        read_record(tmp_path / "gone.json")
