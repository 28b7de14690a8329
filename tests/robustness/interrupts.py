"""An exception at each line of the package in turn, or out of each call that a line makes.

    bad = sweep(make, act, check)

``make()`` builds a fresh state, ``act(*state)`` is what is interrupted, ``check(*state)`` names
what is wrong afterwards, or returns None. The result maps what was wrong to the places.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any

PACKAGE = "/src/rankwise/"


class Injected(KeyboardInterrupt):
    """Ctrl-C at a line."""


class InjectedError(RuntimeError):
    """An error of a library that is called there."""


def sweep(
    make: Callable[[], tuple[Any, ...]],
    act: Callable[..., object],
    check: Callable[..., str | None],
    *,
    exception: type[BaseException] = Injected,
    stride: int = 1,
    start: int = 1,
) -> dict[str, list[str]]:
    """Interrupt ``act`` at every ``stride``-th line; return what was wrong, and where."""
    lines, _ = _run(act, make(), 0, exception)
    assert lines > stride, "nothing of the package is executed"
    bad: dict[str, list[str]] = defaultdict(list)
    for number in range(start, lines + 1, stride):
        state = make()
        _, place = _run(act, state, number, exception)
        wrong = check(*state)
        if wrong:
            bad[wrong].append(place)
    return dict(bad)


def _run(
    act: Callable[..., object], state: tuple[Any, ...], number: int, exception: type[BaseException]
) -> tuple[int, str]:
    """Raise at the line of that number, 0 for none; return the lines executed and the place."""
    count, place = 0, ""

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal count, place
        if event == "line":
            count += 1
            if count == number:
                place = f"{frame.f_code.co_filename.partition(PACKAGE)[2]}:{frame.f_lineno}"
                sys.settrace(None)
                raise exception("injected")
        return trace

    def enter(frame: Any, _event: str, _: object) -> Any:
        return trace if PACKAGE in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        act(*state)
    except exception:
        pass
    except Exception:
        if not number:
            raise
        # An error may be told in other words, as long as it is told.
    finally:
        sys.settrace(before)
    return count, place
