"""What a disk cannot do: no fault of a run nor of ours, but something that the user can see to."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

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
# What torch.save, written in C++, says of a file that it could not write to its end; never why.
_CUT_SHORT = re.compile(r"PytorchStreamWriter failed writing|inline_container\.cc.*unexpected pos")


def complaint_of_disk(error: BaseException) -> str | None:
    """Return what the disk could not do and what helps; None for any other error.

    Want of room is also found behind an error that was raised for it.
    """
    for each in _with_reasons(error):
        number, what = _number_and_reason(each)
        if number in _NO_ROOM or (number in _REMEDIES and each is error):
            file = getattr(each, "filename", None) or "a file"
            return f"{file}: {what}: {_REMEDIES[number]}"
    return None


def is_want_of_room(error: BaseException) -> bool:
    """Say whether a file could not be written because the disk, a quota or a limit is full.

    That is also what an error comes of that was raised for such a one.
    """
    return any(_number_and_reason(each)[0] in _NO_ROOM for each in _with_reasons(error))


def _with_reasons(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, what it was raised for, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _number_and_reason(error: BaseException) -> tuple[int | None, str]:
    if isinstance(error, OSError):
        return error.errno, error.strerror or ""
    kind, said = type(error).__name__, str(error)
    if kind == "SafetensorError" and (quoted := _QUOTED.search(said)):
        return int(quoted[2]), quoted[1]
    if kind == "RuntimeError" and _CUT_SHORT.search(said):
        return errno.ENOSPC, "torch could not write it to its end"
    return None, ""
