"""Running many runs at once on the machines of a Ray cluster, one core or one GPU a run.

The cluster only carries calls and their results. Records are files as ever, in a folder that all
machines share, so a machine may join or leave at any time: what it had finished is kept, and what
it was doing is done again elsewhere.
"""

from __future__ import annotations

import logging
import math
import os
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from rankwise.core.errors import SettingsError, TrainingError
from rankwise.core.interrupts import sigterm_kept
from rankwise.core.plugins import load_plugins, loaded_plugins

LOST_TIMES = 3
"""How many times one call may be lost with a worker or a machine."""


class RayEngine:
    """A Ray cluster; a context manager, whose exit cancels what has not come back.

    Args:
        folder: Where the results go: every machine must see it, at the same path.
        address: The address of the cluster's head. None: the environment's ``RAY_ADDRESS``, a
            cluster that runs on this machine, or else a new one of this machine alone.
        workers: Calls at once; None: one a core of the cluster, or as many as its GPUs take.
        workers_per_gpu: Calls that share a GPU of a cluster that has any; None: 1.

    Raises:
        SettingsError: Ray is not installed, or no cluster answers.
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str | None = None,
        workers: int | None = None,
        workers_per_gpu: int | None = None,
    ) -> None:
        _connect(address)
        self._resources = _resources(workers_per_gpu)
        self._workers = workers or math.inf
        self._environment = {
            name: value for name, value in os.environ.items() if name.startswith("RANKWISE_")
        }
        # By its random name a machine is told whose folder only happens to have the same path.
        self._mark = folder.resolve() / f".cluster-{uuid.uuid4().hex}"
        self._mark.touch()

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        import ray  # optional extra

        self._mark.unlink(missing_ok=True)
        ray.shutdown()

    def run(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Call ``function(*call)`` for each of ``calls`` and yield the results as they come.

        A call may happen twice, if a worker or a machine dies meanwhile.

        Raises:
            SettingsError: A machine does not see the folder of results.
            TrainingError: One call was lost again and again.
        """
        import ray  # optional extra
        from ray.exceptions import RayError, RayTaskError

        # Retried here and not by Ray, whose retries do not bring back the result of a lost machine.
        as_remote: Any = ray.remote
        remote = as_remote(max_retries=0, **self._resources)(_call)
        surroundings = self._mark, self._environment, loaded_plugins()
        calls = list(calls)
        waiting, running, lost = deque(range(len(calls))), {}, Counter()
        try:
            while waiting or running:
                while waiting and len(running) < self._workers:
                    i = waiting.popleft()
                    reference = remote.remote(*surroundings, function, calls[i])
                    running[reference] = i
                (done,), _ = ray.wait(list(running), num_returns=1)
                i = running.pop(done)
                try:
                    result = ray.get(done)
                except RayTaskError as error:
                    raise error.cause from None
                except RayError as error:
                    lost[i] += 1
                    _check_lost(lost[i], error)
                    waiting.append(i)
                else:
                    yield result
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


def _connect(address: str | None) -> None:
    try:
        import ray  # optional extra
    except ImportError as error:
        raise SettingsError(
            f"--engine ray needs Ray, which cannot be found ({error}): pip install 'rankwise[ray]'"
        ) from None
    # Ray reports its use to its makers unless told not to; a comparison sends nothing to anyone.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Workers see the accelerators that they would see as local processes.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        with sigterm_kept():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SettingsError(
            f"no Ray cluster answers at {address or 'this machine'} ({error}): start one with "
            "`ray start --head`, or check --address"
        ) from None


def _resources(workers_per_gpu: int | None) -> dict[str, float]:
    """Return what a call asks of the cluster; Ray shows it its own GPU and no other."""
    import ray  # optional extra

    if ray.cluster_resources().get("GPU", 0):
        return {"num_cpus": 1, "num_gpus": 1 / (workers_per_gpu or 1)}
    if workers_per_gpu is not None:
        ray.shutdown()
        raise SettingsError(
            f"--workers-per-gpu {workers_per_gpu} needs a cluster with GPUs: leave it out"
        )
    return {"num_cpus": 1}


def _check_lost(times: int, error: Exception) -> None:
    if times == LOST_TIMES:
        raise TrainingError(
            f"one run was lost {times} times with its worker or its machine "
            f"({type(error).__name__}): if memory is short, use fewer --workers; rerun the same "
            "command to resume"
        ) from None


def _call(
    mark: Path,
    environment: dict[str, str],
    plugins: Sequence[str],
    function: Callable[..., Any],
    call: tuple[Any, ...],
) -> Any:
    """Make one call on a machine of the cluster."""
    if not mark.exists():
        raise SettingsError(
            f"the machine {os.uname().nodename} does not see {mark.parent}: put --output on a "
            "folder that all machines of the cluster share"
        )
    os.environ.update(environment)
    torch.set_num_threads(1)
    load_plugins(plugins)
    return function(*call)
