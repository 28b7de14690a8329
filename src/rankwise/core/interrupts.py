"""Changes that happen whole or not at all, whatever stops them; Ctrl-C and SIGTERM wait meanwhile.

What can fail is done first and on the side. What is left, a short step that changes a model, is
given to :func:`all_or_none` with the ways back.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

Step = Callable[[], object]
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which a job system ends a process, told as Ctrl-C is."""


def all_or_none(change: Step, ways_back: Sequence[Step]) -> None:
    """Call ``change``; if an exception leaves it, call all ``ways_back``, the last one first.

    The ways back have to lead back also from a change that was stopped halfway. Ctrl-C waits until
    the change is done and then undoes it, as any other exception does; so does a SIGTERM that has a
    handler.
    """
    try:
        with delayed_interrupt():
            change()
    except BaseException:
        go_back(ways_back)
        raise


def go_back(ways_back: Sequence[Step]) -> None:
    """Call all ``ways_back``, the last one first, each also where another fails."""
    with delayed_interrupt(), contextlib.ExitStack() as steps:
        for way in ways_back:
            steps.callback(way)


@contextlib.contextmanager
def delayed_interrupt(*, is_insisted_on: bool = False) -> Iterator[Sequence[object]]:
    """Let Ctrl-C and SIGTERM wait until exit, where the first does what it would have done.

    Yields what has come so far. With ``is_insisted_on`` a second Ctrl-C does not wait.

    In a thread that is not the main one, which Python never interrupts so, nothing waits; nor does
    a signal that is left to the system.
    """
    handlers: dict[int, Callable[..., object]] = {
        each: found for each in SIGNALS if callable(found := signal.getsignal(each))
    }
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    received: list[tuple[int, Any]] = []

    def receive(number: int, frame: Any) -> None:
        insists = is_insisted_on and number == signal.SIGINT
        if insists and any(before == number for before, _ in received):
            handlers[signal.SIGINT](number, frame)
        received.append((number, frame))

    # Called by the standard library, so that no line of ours lies between the two handlers.
    with contextlib.ExitStack() as last:
        last.callback(_pass_on, received, handlers)
        for each, handler in handlers.items():
            last.callback(signal.signal, each, handler)
            signal.signal(each, receive)
        yield received


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Leave SIGTERM to who hears it: ``ray.init`` would end this process by it, and for good."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _pass_on(
    received: Sequence[tuple[int, Any]], handlers: Mapping[int, Callable[..., object]]
) -> None:
    if received:
        number, frame = received[0]
        handlers[number](number, frame)


@contextlib.contextmanager
def raised_sigterm() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` where it would end the process without a word.

    Once: who ends a group of processes may send it to each of them, and each again to its own.
    """
    is_left_alone = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not is_left_alone or threading.current_thread() is not threading.main_thread():
        yield
        return
    with contextlib.ExitStack() as last:
        last.callback(signal.signal, signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, _raise_terminated)
        yield


def _raise_terminated(*_: object) -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    raise Terminated


class EndsInTwoSteps(contextlib.AbstractContextManager[Any, None]):
    """A context manager with a first step at its end, and a second whatever has stopped the first.

    Both are called by the standard library: of an ``__exit__`` of ours, an exception at its first
    line, such as by Ctrl-C, would skip all.
    """

    def __init__(self) -> None:
        self._set_ends()

    if TYPE_CHECKING:

        def __exit__(self, *_: object) -> None: ...
    else:
        __exit__ = property(attrgetter("_ends.__exit__"))

    def _end(self) -> None:
        """Take the first step."""
        raise NotImplementedError

    def _end_anyway(self) -> None:
        """Take the second step, also where the first has done everything."""
        raise NotImplementedError

    def _set_ends(self) -> None:
        self._ends = contextlib.ExitStack()
        self._ends.callback(self._end_anyway)
        self._ends.callback(self._end)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_ends"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._set_ends()
