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
) -> dict[str, list[str]]:
    """Interrupt ``act`` at every ``stride``-th of the moments; return what was wrong, and where.

    The moments are the first, the middle and the last time that each line is executed.
    """
    places = _run(act, make(), 0, exception)
    assert places, "nothing of the package is executed"
    bad: dict[str, list[str]] = defaultdict(list)
    for number in _moments(places)[::stride]:
        state = make()
        _run(act, state, number, exception)
        wrong = check(*state)
        if wrong:
            bad[wrong].append(places[number - 1])
    return dict(bad)


def _moments(places: list[str]) -> list[int]:
    """Return three of the numbers of each place, from 1."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, place in enumerate(places, start=1):
        numbers[place].append(number)
    return sorted({each[at] for each in numbers.values() for at in (0, len(each) // 2, -1)})


def _run(
    act: Callable[..., object], state: tuple[Any, ...], number: int, exception: type[BaseException]
) -> list[str]:
    """Raise at the line of that number, 0 for none; return the lines executed."""
    places: list[str] = []

    def trace(frame: Any, event: str, _: object) -> Any:
        if event == "line":
            file = frame.f_code.co_filename.partition(PACKAGE)[2]
            places.append(f"{file}:{frame.f_lineno}")
            if len(places) == number:
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
    return places
