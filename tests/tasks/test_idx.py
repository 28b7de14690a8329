"""IDX files are read whole or refused by name."""

from __future__ import annotations

import gzip
import struct

import pytest
import torch

from rankwise.core.errors import DataError
from rankwise.tasks.idx import read_idx
from tests.tasks.idx_files import idx_bytes


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_the_array_comes_in_the_shape_of_the_header(tmp_path, name):
    content = idx_bytes(2, 3, 4)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    array = read_idx(tmp_path / name)
    assert array.dtype == torch.uint8
    assert torch.equal(array, torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no IDX file"),
        (b"\x89PNG", "begins with 89 50 4e 47"),
        (idx_bytes(2, 2, kind=13), "is no IDX file of unsigned bytes"),
        (idx_bytes(2, 2)[:7], "is truncated: its header has 7 of 12 bytes"),
        (idx_bytes(2, 2)[:-1], "must hold 2 × 2 bytes after its header, got 3"),
        (idx_bytes(2, 2) + b"x", "got 5"),
        (idx_bytes(0, 2), r"holds no rows \(its shape is \(0, 2\)\)"),
        (idx_bytes(0)[:4] + struct.pack(">I", 2**31), "must hold 2147483648 bytes"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "file")


def test_a_truncated_archive_is_refused(tmp_path):
    (tmp_path / "file.gz").write_bytes(gzip.compress(idx_bytes(3, 3))[:-6])
    with pytest.raises(DataError, match=r"file\.gz cannot be unpacked"):
        read_idx(tmp_path / "file.gz")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no file .*gone\.gz"):
        read_idx(tmp_path / "gone.gz")
