"""Files and folders are read by their names; what is broken in them is told with its line."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma

import pytest

from rankwise.core.errors import DataError
from rankwise.tasks.own.source import (
    Source,
    digest_of,
    guess_delimiter,
    is_data,
    read_source,
)
from tests.tasks.own.own_files import reviews, write_csv, write_jsonl

DEEP, LONG = "[" * 99_999, "9" * 5000
ROWS = [{"text": "one", "label": 1}, {"text": "two", "label": 0}]


def read(data, **options):
    return {
        split: rows.to_list() for split, rows in read_source(Source(str(data), **options)).items()
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\none,1\ntwo,0\n"),
        ("a.tsv", "text\tlabel\none\t1\ntwo\t0\n"),
        ("a.jsonl", '{"text": "one", "label": 1}\n\n{"text": "two", "label": 0}\n'),
        ("a.json", json.dumps(ROWS)),
    ],
)
def test_a_file_is_read_by_its_ending_packed_or_not(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read(tmp_path / name) == {"train": ROWS}
    for ending, opener in ((".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open)):
        with opener(tmp_path / (name + ending), "wt", encoding="utf-8") as stream:
            stream.write(content)
        assert read(tmp_path / (name + ending)) == {"train": ROWS}


def test_parquet_and_paragraphs_of_text_are_read(tmp_path):
    import datasets

    datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == {"train": ROWS}
    (tmp_path / "a.txt").write_text("one\nand more\n\ntwo\n", encoding="utf-8")
    assert [row["text"].strip() for row in read(tmp_path / "a.txt")["train"]] == [
        "one\nand more",
        "two",
    ]


def test_a_folder_has_its_splits_in_files_of_their_names(tmp_path):
    for name in ("train", "dev", "test"):
        write_csv(tmp_path / f"{name}.csv", ["text", "label"], [[name, 1]])
    found = read(tmp_path)
    assert {split: rows[0]["text"] for split, rows in found.items()} == {
        "train": "train",
        "validation": "dev",
        "test": "test",
    }


def test_splits_are_named_by_files_of_their_own(tmp_path):
    files = [write_csv(tmp_path / f"{name}.csv", ["text"], [[name]]) for name in ("a", "b", "c")]
    found = read(files[0], validation=files[1], test=files[2])
    assert [rows[0]["text"] for rows in found.values()] == ["a", "b", "c"]


def test_words_that_pandas_takes_for_missing_stay_words(tmp_path):
    file = write_csv(tmp_path / "a.csv", ["text", "label"], [["None", "NA"], ["null", "nan"]])
    assert read(file)["train"] == [
        {"text": "None", "label": "NA"},
        {"text": "null", "label": "nan"},
    ]


def test_quotes_are_characters_where_a_file_does_not_quote(tmp_path):
    (tmp_path / "a.tsv").write_text('text\tlabel\n"one\t1\ntwo"\t0\n', encoding="utf-8")
    assert [row["text"] for row in read(tmp_path / "a.tsv", has_quotes=False)["train"]] == [
        '"one',
        'two"',
    ]


@pytest.mark.parametrize(
    ("name", "heading", "delimiter"),
    [
        ("a.csv", "text;label", ";"),
        ("a.csv", "text\tlabel", "\t"),
        ("a.csv", "text|label", "|"),
        ("a.csv", "text,a;b", None),
        ("a.csv", "text", None),
        ("a.tsv", "text,label", ","),
        ("a.tsv", "text\ta;b", None),
        ("a.jsonl", '{"text;": 1}', None),
    ],
)
def test_the_delimiter_is_seen_in_the_first_line_where_it_is_not_the_usual(
    tmp_path, name, heading, delimiter
):
    (tmp_path / name).write_text(f"{heading}\none, two;1\n", encoding="utf-8")
    assert guess_delimiter(str(tmp_path / name)) == delimiter
    assert guess_delimiter(str(tmp_path)) == delimiter
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    assert guess_delimiter(str(tmp_path / f"{name}.gz")) == delimiter


def test_a_damaged_file_has_no_delimiter_to_guess(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(b"no gzip")
    assert guess_delimiter(str(tmp_path / "a.csv.gz")) is None
    with pytest.raises(DataError, match=r"a\.csv\.gz cannot be read"):
        read(tmp_path / "a.csv.gz")


def test_rows_with_more_cells_than_columns_are_told_what_to_do_and_nothing_else(tmp_path, capfd):
    (tmp_path / "a.csv").write_text("text,label\none,1\ntwo, or three,0\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"saw 3\); rows have different numbers of cells: .*--task\.delimiter"
    ):
        read(tmp_path / "a.csv")
    assert capfd.readouterr().err == ""


def test_images_in_a_folder_a_class_are_data(tmp_path):
    (tmp_path / "cat").mkdir()
    assert is_data(str(tmp_path))
    with pytest.raises(
        DataError, match=r"holds no data: put train\.csv .* or images in one folder"
    ):
        read(tmp_path)


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"text,label\ngood,1\nb\xffd,0\n")
    with pytest.raises(DataError, match=r"a\.csv, line 3 is not UTF-8 \(byte 0xff at position 2\)"):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a":\n{"a": 3}\n', r"a\.jsonl, line 2 is no JSON \(.*\): '\{\"a\":'"),
        ('{"a": 1}\n[1]\n', r"a\.jsonl, line 2 must be a JSON object, got '\[1\]'"),
        ('[{"a": 1},\n{"a": }]', r"a\.jsonl, line 2 is no JSON"),
        ('[{"a": 1}, 2]', r"a\.jsonl, item 2 must be a JSON object, got '2'"),
        ('{"a": 1}\n{"a": ' + DEEP, r"a\.jsonl, line 2 cannot be read \(.*recursion"),
        ('{"a": ' + LONG + "}", r"a\.jsonl, line 1 cannot be read \(Exceeds the limit"),
        (DEEP, r"a\.jsonl cannot be read \(.*recursion"),
        (f"[{LONG}]", r"a\.jsonl cannot be read \(Exceeds the limit"),
    ],
    ids=lambda value: value[:30],
)
def test_what_is_no_json_is_named_with_its_line(tmp_path, text, message):
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.jsonl")


def test_a_row_with_more_cells_than_columns_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n1,2,3,4\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.csv cannot be read .*Expected 2 fields in line 3"):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize("text", ["", "text,label\n"])
def test_a_file_without_rows_is_refused(tmp_path, text):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.csv has no rows"):
        read(tmp_path / "a.csv")


def test_a_file_cut_off_while_packed_is_refused(tmp_path):
    whole = gzip.compress(b"text,label\n" + b"one,1\n" * 999)
    (tmp_path / "a.csv.gz").write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"a\.csv\.gz cannot be read"):
        read(tmp_path / "a.csv.gz")


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no file or folder .*nowhere\.csv: check the path"):
        read(tmp_path / "nowhere.csv")
    file = write_jsonl(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(DataError, match=r"no split 'tran': set --task\.train to one of train"):
        read(file, train="tran")
    with pytest.raises(DataError, match=r"task\.test: 'tset' is neither a file nor a split"):
        read(file, test="tset")


def test_data_that_changed_since_the_recipe_was_made_are_refused(tmp_path):
    file = tmp_path / "a.csv"
    write_csv(file, ["text", "label"], reviews())
    digest = digest_of(str(file))
    assert len(read(file, digest=digest)["train"]) == 20
    write_csv(file, ["text", "label"], reviews(18))
    read_source.cache_clear()
    with pytest.raises(DataError, match=r"a\.csv is not what the recipe was made of"):
        read(file, digest=digest)
