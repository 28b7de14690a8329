"""Running many runs at once on one machine: a pool of processes with one thread, or one GPU, each.

Runs are independent and leave their results as files, so the pool needs no order and loses nothing
but the runs under way when it is stopped. A worker that dies (killed, or out of memory) takes its
pool along: a new one is started, and what had not come back is called again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from types import TracebackType
from typing import Any

import torch

from rankwise.comparison.engines.devices import VISIBLE
from rankwise.core.errors import TrainingError
from rankwise.core.library_noise import silence_libraries
from rankwise.core.plugins import load_plugins, loaded_plugins

LOST_POOLS = 3
"""How many pools may be lost one after another before any call comes back."""


class LocalEngine:
    """A pool of ``workers`` processes; a context manager, whose exit cancels what has not begun.

    If an exception passes, Ctrl-C too, what has begun is stopped as well.

    Args:
        workers: How many; by default one a core.
        devices: Instead of their number, the GPU that each of them sees and no other, by its name
            in ``CUDA_VISIBLE_DEVICES``; None for one that sees what this process sees.
    """

    def __init__(
        self, workers: int | None = None, *, devices: Sequence[str | None] | None = None
    ) -> None:
        self._devices = devices or [None] * (workers or os.cpu_count() or 1)
        self._pool, self._lifeline = _start_pool(self._devices)

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            # Nobody waits for what is under way: it may take hours, and is done again.
            self._lifeline.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._lifeline.close()

    def run(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Call ``function(*call)`` for each of ``calls`` and yield the results as they come.

        A call may happen twice, if a worker dies meanwhile.

        Raises:
            TrainingError: Workers died again and again, and no call came back.
        """
        waiting, lost = dict(enumerate(calls)), 0
        while waiting:
            try:
                futures = {self._pool.submit(function, *call): i for i, call in waiting.items()}
                for future in as_completed(futures):
                    result = future.result()
                    del waiting[futures[future]]
                    lost = 0
                    yield result
            except BrokenProcessPool:
                lost += 1
                self._replace_pool(lost)

    def _replace_pool(self, lost: int) -> None:
        if lost == LOST_POOLS:
            raise TrainingError(
                f"worker processes died {lost} times and no run came to its end: if memory is "
                "short, use fewer --workers; rerun the same command to resume"
            ) from None
        self._pool.shutdown(wait=True)
        self._lifeline.close()
        self._pool, self._lifeline = _start_pool(self._devices)


def _start_pool(devices: Sequence[str | None]) -> tuple[ProcessPoolExecutor, Connection]:
    """Return a pool, and the connection whose end is the end of its workers."""
    # Fork would copy the threads and locks of torch as they happen to stand.
    context = multiprocessing.get_context("spawn")
    their_end, our_end = context.Pipe(duplex=False)
    free = context.SimpleQueue()
    for device in devices:
        free.put(device)
    pool = ProcessPoolExecutor(
        max_workers=len(devices),
        mp_context=context,
        initializer=_prepare_worker,
        initargs=(their_end, free, loaded_plugins()),
    )
    return pool, our_end


def _prepare_worker(
    lifeline: Connection, free: SimpleQueue[str | None], plugins: Sequence[str]
) -> None:
    # Before CUDA is started, which reads it once.
    if (device := free.get()) is not None:
        os.environ[VISIBLE] = device
    # Ctrl-C reaches every process of the terminal; the parent alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Two processes with two threads each on two cores are slower than with one each.
    torch.set_num_threads(1)
    silence_libraries()
    threading.Thread(target=_leave_with_parent, args=(lifeline,), daemon=True).start()
    load_plugins(plugins)


def _leave_with_parent(lifeline: Connection) -> None:
    # A parent that is killed closes nothing, but its end of the pipe is gone with it: without this
    # its workers would wait for ever.
    lifeline.poll(None)
    os._exit(1)
