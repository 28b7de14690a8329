"""What a disk cannot do is told from faults of ours, whoever reports it."""

from __future__ import annotations

import errno

import datasets
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from rankwise.core.disk import complaint_of_disk, is_want_of_room
from rankwise.core.records import write_text
from rankwise.methods.chain import safetensors_file
from tests.full_disk import files_of_at_most


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_want_of_room_is_told_from_all_else(number):
    assert is_want_of_room(OSError(number, "full", "x"))
    assert not is_want_of_room(OSError(errno.EACCES, "closed", "x"))
    assert not is_want_of_room(ValueError(number))


def test_what_safetensors_quotes_is_understood(tmp_path):
    # Its own words, for what the disk cannot do here: a folder is in the file's place.
    with pytest.raises(SafetensorError) as caught:
        save_file({"x": torch.zeros(2)}, tmp_path)
    complaint = complaint_of_disk(caught.value)
    assert complaint is not None
    assert "Is a directory" in complaint
    assert is_want_of_room(SafetensorError("I/O error: No space left on device (os error 28)"))


@pytest.mark.parametrize(
    "error", [ValueError("I/O error: x (os error 28)"), OSError(errno.EBADF, "x"), OSError("x")]
)
def test_a_fault_of_ours_is_no_complaint_of_the_disk(error):
    assert complaint_of_disk(error) is None


TENSORS = {"x": torch.zeros(5000)}
WRITERS = {
    "texts": lambda file: write_text(file, "x" * 20_000),
    "lines": lambda file: file.open("a").writelines(["x" * 9_000] * 2),
    "safetensors": lambda file: save_file(TENSORS, file),
    "ledgers": lambda file: safetensors_file.save_file(TENSORS, file, {}),
    "checkpoints of optimizers": lambda file: torch.save(TENSORS, file),
    "rows": lambda file: datasets.Dataset.from_dict({"x": range(5000)}).save_to_disk(file),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", WRITERS)
def test_what_every_writer_says_of_a_full_disk_is_understood(tmp_path, name):
    datasets.disable_progress_bars()
    with pytest.raises((OSError, SafetensorError, RuntimeError)) as caught, files_of_at_most(1000):
        WRITERS[name](tmp_path / "file")
    assert is_want_of_room(caught.value)
    complaint = complaint_of_disk(caught.value)
    assert complaint is not None
    assert "make room" in complaint or "raise the limit" in complaint


def test_want_of_room_is_found_behind_the_error_that_was_raised_for_it():
    def fill() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "rows.arrow")
        except OSError as error:
            raise ValueError("the data cannot be read") from error

    with pytest.raises(ValueError) as caught:
        fill()
    assert is_want_of_room(caught.value)
    assert str(complaint_of_disk(caught.value)).startswith("rows.arrow: No space left on device")
    caught.value.__cause__ = OSError(errno.EACCES, "closed", "x")
    assert complaint_of_disk(caught.value) is None
