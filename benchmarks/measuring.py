"""How the benchmarks measure, and the rows that they print.

Times are processor times of one thread by default: on a machine that others use too, wall time and
barriers between threads measure the others. Variants take turns in one process, so that what
disturbs the machine disturbs all of them; a ratio is the median of the ratios of single turns, and
its interval their middle half. Peaks of memory are those of a fresh process whose allocator gives
freed blocks back at once, beyond what the process held before.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from rankwise.core.runtime import peak_memory_bytes, reset_peak_memory

Step = Callable[[], object]
MEGABYTE = 1e6


@dataclass(frozen=True)
class Ratio:
    """Median of the ratios of single turns, and the quartiles around it."""

    low: float
    middle: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Row:
    """A line of the table: what is measured for us, for a peer and for the limit.

    ``ratio`` is what the target speaks of; a target is met if the interval reaches it.
    """

    what: str
    ours: str
    peer: str
    limit: str
    ratio: str
    target: str
    is_met: bool | None


def arguments(repetitions: int) -> argparse.Namespace:
    """Read ``--repetitions`` and ``--threads``, and set the threads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=repetitions)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def seconds(step: Step) -> float:
    """Time one call: processor time on one thread, wall time on several."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    begun = clock()
    step()
    return clock() - begun


def take_turns(
    steps: Mapping[str, Step], *, repetitions: int, is_warm: bool = False
) -> list[dict[str, float]]:
    """Run all ``steps`` once to warm up, unless they are long, and time them in turns."""
    for step in () if is_warm else steps.values():
        step()
    return [{name: seconds(step) for name, step in steps.items()} for _ in range(repetitions)]


def ratio(turns: list[dict[str, float]], name: str, *, to: str) -> Ratio:
    """Compare two variants over the turns that they shared."""
    ratios = [turn[name] / turn[to] for turn in turns]
    if len(ratios) == 1:
        return Ratio(*ratios * 3)
    return Ratio(*statistics.quantiles(ratios, n=4, method="inclusive"))


def met(value: Ratio, target: float) -> bool:
    """Whether the interval of a ratio reaches a target that is an upper bound."""
    return value.low <= target


def in_fresh_process(function: Callable[..., Any], *positional: Any) -> Any:
    """Call a module's function in a new process and return what it returns.

    The new process maps each large block on its own, so that memory that was freed does not count.
    """
    kept = {name: os.environ.get(name) for name in ("MALLOC_MMAP_THRESHOLD_", "OMP_NUM_THREADS")}
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(function, positional)
    finally:
        for name, value in kept.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def peak_beyond(step: Step) -> int:
    """Return the bytes that ``step`` takes at its peak beyond what the process holds before it."""
    reset_peak_memory()
    before = peak_memory_bytes()
    step()
    return peak_memory_bytes() - before


class SavedBytes:
    """Counts the bytes that autograd keeps for a backward pass, each storage once.

    Storages of ``held``, a model's parameters and buffers, are there anyway and do not count.
    """

    def __init__(self, held: Any) -> None:
        self._held = {tensor.untyped_storage().data_ptr() for tensor in held}
        self._storages: dict[int, Any] = {}

    def __enter__(self) -> SavedBytes:
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)

    @property
    def total(self) -> int:
        """The bytes kept since the beginning; the storages are held here, so none comes twice."""
        return sum(storage.nbytes() for storage in self._storages.values())

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._held:
            self._storages[storage.data_ptr()] = storage
        return tensor


def print_rows(title: str, rows: list[Row]) -> None:
    """Print rows as a Markdown table."""
    heads = ("what", "ours", "peer", "limit", "ratio", "target", "met")
    print(f"\n{title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        verdict = {True: "yes", False: "no", None: "-"}[row.is_met]
        cells = (row.what, row.ours, row.peer, row.limit, row.ratio, row.target, verdict)
        print(f"| {' | '.join(cells)} |", flush=True)


def megabytes(number: float) -> str:
    """Write a number of bytes in MB."""
    return f"{number / MEGABYTE:.0f} MB" if math.isfinite(number) else "-"
