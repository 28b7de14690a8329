"""What a disk cannot do is told from faults of ours, whoever reports it."""

from __future__ import annotations

import errno

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from rankwise.core.disk import complaint_of_disk, is_want_of_room


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
