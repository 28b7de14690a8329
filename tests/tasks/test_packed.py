"""Packed files: read as they are, refused where they unpack to more than the bound."""

from __future__ import annotations

import bz2
import gzip
import lzma

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from rankwise.core.errors import DataError, SettingsError
from rankwise.tasks.generation.examples import read_examples
from rankwise.tasks.glue.definitions import find_definition
from rankwise.tasks.glue.files import read_file
from rankwise.tasks.idx import read_idx
from rankwise.tasks.own.faults import check_file
from rankwise.tasks.packed import VARIABLE, open_packed
from rankwise.tasks.vtab import definitions as vtab
from rankwise.tasks.vtab.files import read_folder

CONTENT = b"one\ntwo\n" * 1000


@pytest.fixture
def small_bound(monkeypatch):
    """The bound is a hundredth of a megabyte."""
    monkeypatch.setenv(VARIABLE, "1e-5")


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)],
)
def test_what_was_packed_is_read(tmp_path, suffix, pack):
    path = tmp_path / f"rows.txt{suffix}"
    path.write_bytes(pack(CONTENT))
    with open_packed(path) as file:
        assert list(file) == CONTENT.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_what_unpacks_to_more_than_the_bound_is_refused(tmp_path, small_bound, suffix, pack):
    path = tmp_path / f"rows.txt{suffix}"
    path.write_bytes(pack(bytes(20_000)))
    with open_packed(path) as file, pytest.raises(DataError, match=rf"unpacks to .*{VARIABLE}"):
        file.read()


def check_csv(path):
    check_file(path, "csv")


@pytest.mark.parametrize("read", [read_idx, read_examples, check_csv])
def test_every_reader_has_the_bound(tmp_path, small_bound, read):
    path = tmp_path / "rows.json.gz"
    path.write_bytes(gzip.compress(bytes(20_000)))
    with pytest.raises(DataError, match=VARIABLE):
        read(path)


def test_parts_of_parquet_are_measured_before_they_are_unpacked(tmp_path, small_bound):
    path = tmp_path / "rows.parquet"
    table = pyarrow.table({"text": ["word" * n for n in range(300)]})
    parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match=VARIABLE):
        check_file(path, "parquet")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"rows\.parquet cannot be read"):
        check_file(path, "parquet")


def test_the_reader_of_glue_has_it_too(tmp_path, small_bound):
    path = tmp_path / "glue" / "CoLA" / "train.tsv.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(b"gj04\t1\t\tSome words.\n" * 1000))
    with pytest.raises(DataError, match=VARIABLE):
        read_file(find_definition("cola"), "train", tmp_path)


def test_arrays_are_measured_before_they_are_unpacked(tmp_path, small_bound):
    folder = tmp_path / "vision" / "svhn" / "train"
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "arrays.npz", images=np.zeros((20, 32, 32), np.uint8))
    with pytest.raises(DataError, match=VARIABLE):
        read_folder(vtab.find_definition("svhn"), "train", tmp_path)


@pytest.mark.parametrize("value", ["0", "-1", "much", "nan"])
def test_a_bound_that_is_none_is_refused(tmp_path, monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    path = tmp_path / "rows.gz"
    path.write_bytes(gzip.compress(CONTENT))
    with pytest.raises(SettingsError, match=f"{VARIABLE} must be a positive number"):
        open_packed(path)
