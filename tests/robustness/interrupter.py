"""Exceptions at every moment of a call, one moment at a time, and the states that they leave.

A moment is the beginning of a line of Rankwise (``LINES``), or a call that Rankwise makes into
torch, PEFT or Transformers (``CALLS``): of each place the first, the middle and the last execution.
:func:`sweep` runs an action on fresh ground once a moment, lets it break there and asks what is
wrong afterwards::

    faults = sweep(make, act, lambda ground, is_done: None if ... else "the base is not restored")
    assert not faults
"""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

import peft
import torch
import transformers
from torch.overrides import TorchFunctionMode

import rankwise
from rankwise.core import interrupts

Ground = TypeVar("Ground")
Raise = Callable[[], None]
# A line of a function's code.
Place = tuple[CodeType, int]

_OURS = str(Path(rankwise.__file__).parent)
_THEIRS = tuple(str(Path(each.__file__ or "").parent) for each in (torch, peft, transformers))
# Once it has compiled anything torch hears of each module that dies, at whatever line of ours.
_HEARS_OF_THE_DEAD = str(Path(torch.__file__).parent / "_dynamo")


def keyboard_interrupt() -> None:
    """Raise what Ctrl-C raises, also where Ctrl-C would wait."""
    raise KeyboardInterrupt("injected")


def ctrl_c() -> None:
    """Press Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def runtime_error() -> None:
    """Raise what torch raises where memory is short."""
    raise RuntimeError("injected")


class _Moments:
    """Notes the places of all moments, or breaks off at the ``nth`` moment of one of them."""

    def __init__(self, strike: Raise, place: Place | None = None, nth: int = 1) -> None:
        self.strike, self.place, self.left = strike, place, nth
        self.places: list[Place] = []

    @property
    def is_struck(self) -> bool:
        return self.place is not None and not self.left

    def concern(self, code: CodeType) -> bool:
        """Say whether to trace ``code``: tracing all of it takes most of the time."""
        return _is_ours(code) if self.place is None else self.place[0] is code

    def pass_one(self, frame: FrameType) -> None:
        place = frame.f_code, frame.f_lineno
        if self.place is None:
            self.places.append(place)
        elif self.place == place and self.left:
            self.left -= 1
            if not self.left:
                sys.settrace(None)
                sys.setprofile(None)
                self.strike()


@contextlib.contextmanager
def _at_lines(moments: _Moments) -> Iterator[None]:
    def in_ours(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line" and not _is_where_ctrl_c_waits(frame):
            moments.pass_one(frame)
        return in_ours

    sys.settrace(lambda frame, *_: in_ours if moments.concern(frame.f_code) else None)
    try:
        yield
    finally:
        sys.settrace(None)


@contextlib.contextmanager
def _at_calls(moments: _Moments) -> Iterator[None]:
    class OfTorch(TorchFunctionMode):
        """Operators and what is written in C++: what the profiler does not see."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            caller = sys._getframe(1)
            if moments.concern(caller.f_code):
                moments.pass_one(caller)
            return func(*args, **(kwargs or {}))

    def of_python(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or (caller := frame.f_back) is None:
            return
        if moments.concern(caller.f_code) and _is_theirs(frame.f_code):
            moments.pass_one(caller)

    with OfTorch():
        sys.setprofile(of_python)
        try:
            yield
        finally:
            sys.setprofile(None)


LINES, CALLS = _at_lines, _at_calls


def sweep(
    make: Callable[[], Ground],
    act: Callable[[Ground], object],
    fault: Callable[[Ground, bool], str | None],
    *,
    moments: Callable[[_Moments], Any] = LINES,
    strike: Raise = keyboard_interrupt,
    stride: int = 1,
) -> dict[str, list[str]]:
    """Break ``act`` off at each moment in turn; return what was wrong afterwards, and where.

    Args:
        make: Makes fresh ground for ``act``.
        fault: Says what is wrong with the ground; is told whether ``act`` came to its end.
        moments: ``LINES`` or ``CALLS``.
        strike: What happens at the moment.
        stride: Only each so many-th of the moments is tried.
    """
    act(make())  # What happens once, such as an import, is no moment.
    listed = _Moments(strike)
    assert _break_off(act, make(), moments(listed), listed)
    assert listed.places, "nothing of the package is executed"
    faults: dict[str, set[str]] = defaultdict(set)
    tries = _three_of_each(listed.places)
    for place, nth in tries[len(tries) % stride :: stride]:
        ground, moment = make(), _Moments(strike, place, nth)
        is_done = _break_off(act, ground, moments(moment), moment)
        what = _said(fault, ground, is_done) if moment.is_struck else "the moment did not come"
        if what:
            faults[what].add(_name(place))
    return {what: sorted(where) for what, where in faults.items()}


def _three_of_each(places: list[Place]) -> list[tuple[Place, int]]:
    """Return the first, middle and last execution of each place, as they come."""
    numbers: dict[Place, list[int]] = defaultdict(list)
    for number, place in enumerate(places):
        numbers[place].append(number)
    tries = [
        (each[at], place, at + 1)
        for place, each in numbers.items()
        for at in {0, len(each) // 2, len(each) - 1}
    ]
    return [(place, nth) for _, place, nth in sorted(tries, key=itemgetter(0))]


def _name(place: Place) -> str:
    code, line = place
    return f"{Path(code.co_filename).relative_to(_OURS)}:{line}"


def _break_off(
    act: Callable[[Ground], object], ground: Ground, moments: Any, state: _Moments
) -> bool:
    """Return whether ``act`` came to its end."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # It calls finalizers of torch out of whatever line it comes to.
    try:
        with moments:
            act(ground)
        return True
    except (KeyboardInterrupt, Exception):  # which may be told in other words
        if not state.is_struck:
            raise
        return False
    finally:
        is_alive = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, before)
        gc.enable()
        assert is_alive, "Ctrl-C is dead"


def _said(fault: Callable[[Ground, bool], str | None], ground: Ground, is_done: bool) -> str | None:
    try:
        return fault(ground, is_done)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _is_where_ctrl_c_waits(frame: FrameType) -> bool:
    """Say whether it is between the lines that let Ctrl-C wait, once it does.

    No Ctrl-C can raise there, and nothing else is called.
    """
    waits = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    return waits and frame.f_code.co_filename == interrupts.__file__


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(_OURS)


def _is_theirs(code: CodeType) -> bool:
    is_called = not code.co_filename.startswith(_HEARS_OF_THE_DEAD)
    return is_called and code.co_filename.startswith(_THEIRS)
