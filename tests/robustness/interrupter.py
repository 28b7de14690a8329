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
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

from torch.overrides import TorchFunctionMode

import rankwise
from rankwise.core import interrupts

Ground = TypeVar("Ground")
Raise = Callable[[], None]

_OURS = str(Path(rankwise.__file__).parent)
_THEIRS = tuple(
    str(Path(sys.modules[name].__file__ or "").parent) for name in ("torch", "peft", "transformers")
)


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
    """Notes the places of the moments and breaks off at one of them, counted from 1."""

    def __init__(self, at: int, strike: Raise) -> None:
        self.at, self.strike, self.places = at, strike, list[str]()

    def pass_one(self, frame: FrameType) -> None:
        file = Path(frame.f_code.co_filename).relative_to(_OURS)
        self.places.append(f"{file}:{frame.f_lineno}")
        if len(self.places) == self.at:
            sys.settrace(None)
            sys.setprofile(None)
            self.strike()


@contextlib.contextmanager
def _at_lines(moments: _Moments) -> Iterator[None]:
    def in_ours(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line" and not _is_where_ctrl_c_waits(frame):
            moments.pass_one(frame)
        return in_ours

    sys.settrace(lambda frame, *_: in_ours if _is_ours(frame.f_code) else None)
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
            if _is_ours(caller.f_code):
                moments.pass_one(caller)
            return func(*args, **(kwargs or {}))

    def of_python(frame: FrameType, event: str, _: Any) -> None:
        caller = frame.f_back
        is_into_theirs = event == "call" and frame.f_code.co_filename.startswith(_THEIRS)
        if is_into_theirs and caller is not None and _is_ours(caller.f_code):
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
    is_done, places = _break_off(act, make(), at=0, moments=moments, strike=strike)
    assert is_done
    assert places, "nothing of the package is executed"
    faults: dict[str, set[str]] = defaultdict(set)
    for at in _three_of_each(places)[len(places) % stride :: stride]:
        ground = make()
        is_done, _ = _break_off(act, ground, at=at, moments=moments, strike=strike)
        if what := _said(fault, ground, is_done):
            faults[what].add(places[at - 1])
    return {what: sorted(where) for what, where in faults.items()}


def _three_of_each(places: list[str]) -> list[int]:
    """Return the numbers, from 1, of the first, middle and last execution of each place."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, place in enumerate(places, start=1):
        numbers[place].append(number)
    return sorted({each[at] for each in numbers.values() for at in (0, len(each) // 2, -1)})


def _break_off(
    act: Callable[[Ground], object], ground: Ground, *, at: int, moments: Any, strike: Raise
) -> tuple[bool, list[str]]:
    """Return whether ``act`` came to its end, and the places of its moments."""
    state = _Moments(at, strike)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with moments(state):
            act(ground)
        return True, state.places
    except (KeyboardInterrupt, Exception):  # which may be told in other words
        if len(state.places) < at or not at:
            raise
        return False, state.places
    finally:
        is_alive = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, before)
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
