"""What a disk cannot do: no fault of a run nor of ours, but something that the user can see to."""

from __future__ import annotations

import errno
import re

_ROOM = "make room, then rerun the same command to resume"
_WRITABLE = "name a folder that can be written"
_IN_THE_PLACE = "a file is in the place of a folder, or a folder in that of a file: move it away"
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "the file may not be that large here: raise the limit (ulimit -f)",
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
    errno.EROFS: _WRITABLE,
    errno.ENAMETOOLONG: "name it shorter",
    errno.ENOTDIR: _IN_THE_PLACE,
    errno.EEXIST: _IN_THE_PLACE,
    errno.EISDIR: _IN_THE_PLACE,
}
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# safetensors, written in Rust, raises an error of its own that quotes the system's.
_QUOTED = re.compile(r"I/O error: (.*) \(os error (\d+)\)")


def complaint_of_disk(error: BaseException) -> str | None:
    """Return what the disk could not do and what helps; None for any other error."""
    number, what = _number_and_reason(error)
    if number not in _REMEDIES:
        return None
    file = getattr(error, "filename", None) or "a file"
    return f"{file}: {what}: {_REMEDIES[number]}"


def is_want_of_room(error: BaseException) -> bool:
    """Say whether a file could not be written because the disk, a quota or a limit is full."""
    return _number_and_reason(error)[0] in _NO_ROOM


def _number_and_reason(error: BaseException) -> tuple[int | None, str]:
    if isinstance(error, OSError):
        return error.errno, error.strerror or ""
    quoted = _QUOTED.search(str(error)) if type(error).__name__ == "SafetensorError" else None
    return (int(quoted[2]), quoted[1]) if quoted else (None, "")
