"""Local files of GLUE: read as GLUE writes them, refused with file and line where wrong."""

from __future__ import annotations

import pytest

from rankwise.core.errors import DataError
from rankwise.tasks.glue.definitions import find_definition
from rankwise.tasks.glue.examples import Example
from rankwise.tasks.glue.files import has_file, read_file
from tests.tasks.glue.glue_files import MRPC_HEADER, mrpc_rows, write_mrpc, write_rows

STSB_HEADER = ("index", "sentence1", "sentence2", "score")


def read(root, name, split="train"):
    return read_file(find_definition(name), split, root)


def write(root, folder, *rows, file="train.tsv", **options):
    return write_rows(root / "glue" / folder / file, rows, **options)


def test_rows_are_read_in_order_with_their_source(tmp_path):
    rows, source = read(write_mrpc(tmp_path, train=4), "mrpc")
    assert rows[0] == Example(("train 0", "other train 0"), 1)
    assert [row.label for row in rows] == [1, 0, 0, 1]
    assert source == "glue/MRPC/train.tsv"


def test_a_gzipped_file_and_a_byte_order_mark_make_no_difference(tmp_path):
    plain = read(write_mrpc(tmp_path / "plain", train=3), "mrpc").examples
    rows = [MRPC_HEADER, *mrpc_rows(3, "train")]
    write(tmp_path / "gzip", "MRPC", *rows, file="train.tsv.gz", start=b"\xef\xbb\xbf")
    assert read(tmp_path / "gzip", "mrpc").examples == plain


def test_cola_has_no_header(tmp_path):
    write(tmp_path, "CoLA", ("gj04", "1", "", "It rains."), ("gj04", "0", "*", "Rains it."))
    assert read(tmp_path, "cola").examples == [
        Example(("It rains.",), 1),
        Example(("Rains it.",), 0),
    ]


def test_quotes_are_text_and_only_a_line_feed_ends_a_row(tmp_path):
    file = write(tmp_path, "SST-2", ("sentence", "label"), ('a "b', "0"), ("c\u2028\x85\rd", "1"))
    assert read(tmp_path, "sst2").examples == [
        Example(('a "b',), 0),
        Example(("c\u2028\x85\rd",), 1),
    ]
    file.write_bytes(b"sentence\tlabel\r\na b\t1\r\n")
    assert read(tmp_path, "sst2").examples == [Example(("a b",), 1)]


def test_classes_may_be_written_as_names(tmp_path):
    header = ("index", "sentence1", "sentence2", "label")
    write(tmp_path, "RTE", header, ("0", "a", "b", "not_entailment"), ("1", "c", "d", "entailment"))
    assert [row.label for row in read(tmp_path, "rte").examples] == [1, 0]


def test_mnli_is_read_in_both_forms(tmp_path):
    ours = ("label", "premise", "hypothesis")
    write(tmp_path, "MNLI", ours, ("neutral", "a", "b"), file="dev_mismatched_sample1000.tsv")
    gold = ("index", "genre", "sentence1", "sentence2", "label1", "gold_label")
    write(tmp_path, "MNLI", gold, ("0", "fiction", "c", "d", "neutral", "contradiction"))
    validation, train = read(tmp_path, "mnli-mm", "validation"), read(tmp_path, "mnli-mm")
    assert validation.examples == [Example(("a", "b"), 1)]
    assert train.examples == [Example(("c", "d"), 2)]


def test_scores_are_numbers(tmp_path):
    write(tmp_path, "STS-B", STSB_HEADER, ("0", "a", "b", "3.800"), ("1", "c", "d", "0"))
    assert [row.label for row in read(tmp_path, "stsb").examples] == [3.8, 0.0]


def test_a_partial_file_is_used_where_there_is_no_whole_one_and_its_source_says_so(tmp_path):
    root = write_mrpc(tmp_path, train_subset=3)
    assert read(root, "mrpc").source == "glue/MRPC/train_subset.tsv (a part of the split)"
    assert read(write_mrpc(root, train=4), "mrpc").source == "glue/MRPC/train.tsv"


def test_a_missing_split_is_told_with_what_is_there(tmp_path):
    root = write_mrpc(tmp_path, dev=3, train=3)
    definition = find_definition("mrpc")
    assert has_file(definition, "train", root)
    assert not has_file(definition, "test", root)
    with pytest.raises(DataError, match=r"expected test_labelled.*found dev.tsv, train.tsv"):
        read(root, "mrpc", "test")
    with pytest.raises(DataError, match=r"no train split of rte.*found no such file.*dev_matched_"):
        read(root, "rte")


@pytest.mark.parametrize(
    ("folder", "rows", "message"),
    [
        (
            "MRPC",
            [("Quality", "a", "b")],
            r"columns #1 String, #2 String, Quality,.* Quality, a, b",
        ),
        ("MRPC", [("",)], r"must name the columns .* got nothing"),
        ("MRPC", [], r"must name the columns .* got nothing"),
        ("MRPC", [MRPC_HEADER], r"train.tsv holds no rows"),
        ("MRPC", [MRPC_HEADER, ("1", "2")], r"train.tsv, line 2: expected 5 fields .* got 2"),
        ("MRPC", [MRPC_HEADER, *mrpc_rows(2), ("",)], r"line 4: expected 5 fields .* got 1"),
        ("MRPC", [MRPC_HEADER, ("2", "", "", "a", "b")], r"line 2: .* one of 0, 1, got '2'"),
        ("MRPC", [MRPC_HEADER, ("1", "", "", "a", " ")], r"line 2: no text in #2 String"),
        ("CoLA", [("gj04", "yes", "", "It rains.")], r"line 1: .* one of 0, 1, got 'yes'"),
        ("CoLA", [("gj04", "1", "It rains.")], r"line 1: expected 4 fields .* got 3"),
        ("STS-B", [STSB_HEADER, ("0", "a", "b", "5.1")], r"line 2: .* from 0 to 5, got '5.1'"),
        ("STS-B", [STSB_HEADER, ("0", "a", "b", "nan")], r"line 2: .* from 0 to 5, got 'nan'"),
        ("STS-B", [STSB_HEADER, ("0", "a", "b", "")], r"line 2: .* from 0 to 5, got ''"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(tmp_path, folder, rows, message):
    write(tmp_path, folder, *rows)
    with pytest.raises(DataError, match=message):
        read(tmp_path, folder.replace("-", "").lower())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.tsv", b"sentence\tlabel\ngr\xfcn\t1\n", r"line 2 is no UTF-8"),
        ("train.tsv.gz", b"sentence\tlabel\n", r"cannot be read after line 0 .*fetch it again"),
        ("train.tsv.gz", b"\x1f\x8b\x08", r"cannot be read after line 0"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name, content, message):
    file = tmp_path / "glue" / "SST-2" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path, "sst2")


@pytest.mark.parametrize(
    ("name", "split", "rows"),
    [
        ("cola", "train", 8551),
        ("cola", "validation", 1043),
        ("mrpc", "train", 3668),
        ("mrpc", "validation", 408),
        ("mrpc", "test", 1725),
        ("stsb", "train", 5749),
        ("stsb", "validation", 1500),
        ("sst2", "train", 67349),
        ("sst2", "validation", 872),
        ("qnli", "validation", 5463),
        ("wnli", "train", 635),
        ("wnli", "validation", 71),
        ("qqp", "train", 23497),
        ("mnli", "validation", 1000),
        ("mnli-mm", "validation", 1000),
    ],
)
def test_the_real_files_are_read_in_full(real_data, name, split, rows):
    examples, source = read(real_data, name, split)
    assert len(examples) == rows
    assert ("a part of the split" in source) == (name in ("qqp", "mnli", "mnli-mm"))
    labels = find_definition(name).labels
    assert not labels or {row.label for row in examples} == set(range(len(labels)))


def test_the_majority_of_the_real_mrpc_test_is_as_known(real_data):
    examples = read(real_data, "mrpc", "test").examples
    assert sum(row.label for row in examples) / len(examples) == pytest.approx(0.665, abs=5e-4)
