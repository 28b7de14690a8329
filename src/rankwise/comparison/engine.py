"""Running many runs at once on one machine: a pool of processes with one thread each.

Runs are independent and leave their results as files, so the pool needs no order and loses nothing
but the runs under way when it is stopped.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from types import TracebackType
from typing import Any

import torch


class LocalEngine:
    """A pool of ``workers`` processes; a context manager, whose exit cancels what has not begun."""

    def __init__(self, workers: int | None = None) -> None:
        self._pool = ProcessPoolExecutor(
            max_workers=workers or os.cpu_count() or 1,
            # Fork would copy the threads and locks of torch as they happen to stand.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_prepare_worker,
        )

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Call ``function(*call)`` for each of ``calls`` and yield the results as they come."""
        futures = [self._pool.submit(function, *call) for call in calls]
        for future in as_completed(futures):
            yield future.result()


def _prepare_worker() -> None:
    # Two processes with two threads each on two cores are slower than with one each.
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    # A parent that is killed closes nothing: without this its workers would wait for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
