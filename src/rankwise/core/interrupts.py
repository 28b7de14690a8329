"""Changes that happen whole or not at all, whatever exception stops them; Ctrl-C waits meanwhile.

What can fail is done first and on the side. What is left, a short step that changes a model, is
given to :func:`all_or_none` with the ways back.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

Step = Callable[[], object]


def all_or_none(change: Step, ways_back: Sequence[Step]) -> None:
    """Call ``change``; if an exception leaves it, call all ``ways_back``, the last one first.

    The ways back have to lead back also from a change that was stopped halfway. Ctrl-C waits until
    the change is done and then undoes it, as any other exception does.
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
def delayed_interrupt() -> Iterator[None]:
    """Let Ctrl-C wait until exit, where it does what it would have done.

    In a thread that is not the main one, which Python never interrupts so, and where SIGINT is left
    to the system, nothing waits.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    received: list[tuple[Any, ...]] = []
    # Called by the standard library, so that no line of ours lies between the two handlers.
    with contextlib.ExitStack() as last:
        last.callback(_pass_on, received, handler)
        last.callback(signal.signal, signal.SIGINT, handler)
        signal.signal(signal.SIGINT, lambda *arguments: received.append(arguments))
        yield


def _pass_on(received: list[tuple[Any, ...]], handler: Callable[..., object]) -> None:
    if received:
        handler(*received[-1])


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
