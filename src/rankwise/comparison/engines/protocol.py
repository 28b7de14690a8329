"""What a comparison asks of an engine: many independent calls, their results as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol


class Engine(Protocol):
    """Somewhere to run many calls at once: processes of this machine, or a cluster of machines."""

    def run(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Call ``function(*call)`` for each of ``calls`` and yield the results as they come.

        A call that is lost, with a worker process or a machine, is made again: it may happen twice.

        Raises:
            TrainingError: Calls were lost again and again.
        """
        ...
