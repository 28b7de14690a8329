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
from multiprocessing.connection import Connection, wait
from multiprocessing.queues import SimpleQueue
from types import TracebackType
from typing import Any, NamedTuple

import torch

from rankwise.comparison.engines.devices import VISIBLE
from rankwise.core.cores import usable_cores
from rankwise.core.errors import TrainingError
from rankwise.core.library_noise import silence_libraries
from rankwise.core.plugins import load_plugins, loaded_plugins

LOST_POOLS = 3
"""How many pools may be lost one after another before any call comes back."""

START_METHOD = "spawn"  # fork would copy the threads and locks of torch as they happen to stand

_TAKEN = 2.0  # seconds in which a parent that is alive has taken a result


class LocalEngine:
    """A pool of ``workers`` processes; a context manager, whose exit cancels what has not begun.

    If an exception passes, what has begun is stopped as well; by Ctrl-C or SIGTERM, where it wants
    to be, see :func:`delayed_interrupt`. A second Ctrl-C does not wait for that.

    Args:
        workers: How many; by default one a core.
        devices: Instead of their number, the GPU that each of them sees and no other, by its name
            in ``CUDA_VISIBLE_DEVICES``; None for one that sees what this process sees.
    """

    def __init__(
        self, workers: int | None = None, *, devices: Sequence[str | None] | None = None
    ) -> None:
        self._devices = devices or [None] * (workers or usable_cores())
        self._pool = _start_pool(self._devices)

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._pool.requests.close()
        elif kind is not None:
            # Nobody waits for what is under way: it may take hours, and is done again.
            self._pool.lifeline.close()
        self._pool.end()

    def start(self, load: Callable[[], None]) -> None:
        """Start the workers, and let them ``load`` what calls will need while others are busy."""
        for _ in self._devices:
            self._pool.executor.submit(_called, load, ())

    def run(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Call ``function(*call)`` for each of ``calls`` and yield the results as they come.

        A call may happen twice, if a worker dies meanwhile.

        Raises:
            TrainingError: Workers died again and again, and no call came back.
        """
        waiting, lost = dict(enumerate(calls)), 0
        while waiting:
            try:
                futures = {
                    self._pool.executor.submit(_called, function, call): i
                    for i, call in waiting.items()
                }
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
        self._pool.end()
        self._pool = _start_pool(self._devices)


class _Pool(NamedTuple):
    """Processes, and two connections to them of which nothing but the end is ever heard.

    With the end of ``lifeline`` they end at once, with that of ``requests`` as SIGTERM has it.
    """

    executor: ProcessPoolExecutor
    lifeline: Connection
    requests: Connection

    def end(self) -> None:
        """Wait for what is under way, and begin nothing else."""
        try:
            self.executor.shutdown(wait=True, cancel_futures=True)
        finally:
            self.lifeline.close()
            self.requests.close()


def _start_pool(devices: Sequence[str | None]) -> _Pool:
    context = multiprocessing.get_context(START_METHOD)
    lifeline, requests = context.Pipe(duplex=False), context.Pipe(duplex=False)
    free = context.SimpleQueue()
    for device in devices:
        free.put(device)
    executor = ProcessPoolExecutor(
        max_workers=len(devices),
        mp_context=context,
        initializer=_prepare_worker,
        initargs=(lifeline[0], requests[0], free, loaded_plugins()),
    )
    return _Pool(executor, lifeline[1], requests[1])


def _prepare_worker(
    lifeline: Connection,
    requests: Connection,
    free: SimpleQueue[str | None],
    plugins: Sequence[str],
) -> None:
    # Before CUDA is started, which reads it once.
    if (device := free.get()) is not None:
        os.environ[VISIBLE] = device
    # Ctrl-C reaches every process of the terminal; the parent alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A handler, so that a training may let it wait for its checkpoint.
    signal.signal(signal.SIGTERM, lambda number, _: _LEAVING.leave(128 + number))
    # Two processes with two threads each on two cores are slower than with one each.
    torch.set_num_threads(1)
    silence_libraries()
    threading.Thread(target=_leave_with_parent, args=(lifeline, requests), daemon=True).start()
    load_plugins(plugins)


class _Leaving:
    """Ends a worker, but not amid a result: the parent would wait for the rest of it for ever."""

    def __init__(self) -> None:
        # A signal may come where this thread holds it.
        self._gate = threading.RLock()
        self._may_leave = True
        self._code: int | None = None

    def leave(self, code: int) -> None:
        """End the process: at once where it may, else before the next call or soon."""
        with self._gate:
            self._code = code
            if self._may_leave:
                os._exit(code)
        # Where nobody takes the result any more, as in a pool that has lost another worker.
        timer = threading.Timer(_TAKEN, os._exit, [code])
        timer.daemon = True
        timer.start()

    def begin_call(self) -> None:
        """Let it end from here on."""
        with self._gate:
            self._may_leave = True
            if self._code is not None:
                os._exit(self._code)

    def end_call(self) -> None:
        """Let it not end, until the next call."""
        with self._gate:
            self._may_leave = False


_LEAVING = _Leaving()


def _called(function: Callable[..., Any], call: tuple[Any, ...]) -> Any:
    _LEAVING.begin_call()
    try:
        return function(*call)
    finally:
        _LEAVING.end_call()


def _leave_with_parent(lifeline: Connection, requests: Connection) -> None:
    # A parent that is killed closes nothing, but its ends of the pipes are gone with it: without
    # this its workers would wait for ever.
    if lifeline not in wait([lifeline, requests]):
        os.kill(os.getpid(), signal.SIGTERM)
        lifeline.poll(None)
    _LEAVING.leave(1)
