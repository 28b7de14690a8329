"""Changes that are undone for certain: an exception leaves what was before, wherever it strikes.

A ``finally`` is lines like any other, and an exception between two of them (Ctrl-C, an error of the
library that is called) leaves the rest undone. So what undoes a change is one function that may be
called twice, and is called again when it was interrupted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def undone(undo: Callable[[], None]) -> Iterator[None]:
    """Call ``undo`` on exit, and again if an exception interrupts it.

    Enter before anything is changed: ``undo`` has to bear being called too early and twice. As this
    is a generator, it is called as well where an exception strikes so late that the ``with``
    statement itself does not end: the interpreter closes what nobody holds any more.

    Example:
        >>> numbers = [1]
        >>> with undone(lambda: numbers.__setitem__(slice(None), [1])):
        ...     numbers.append(2)
        >>> numbers
        [1]
    """
    try:
        yield
        undo()
    except BaseException:
        undo()
        raise


@contextlib.contextmanager
def undone_on_error(undo: Callable[[], None]) -> Iterator[None]:
    """Call ``undo`` if an exception passes, and never otherwise."""
    try:
        yield
    except BaseException:
        undo()
        raise
