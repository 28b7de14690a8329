"""How the benchmarks measure, when they have measured enough, and the rows that they print.

Times are processor times of one thread by default: on a machine that others use too, wall time and
barriers between threads measure the others. Variants take turns in one process, so that what
disturbs the machine disturbs all of them. A figure is the median of a ratio over the turns, with
the interval that holds the median in 95 of 100 such measurements. A target is met if the whole
interval is below it and missed if all of it is above; else more turns are taken, up to a bound.
Peaks of memory are those of a fresh process whose allocator gives freed blocks back at once, beyond
what the process held before.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from rankwise.core.runtime import peak_memory_bytes, reset_peak_memory

Step = Callable[[], object]
Turn = Mapping[str, float]  # seconds of each variant
Verdict = Literal["yes", "no", "undecided", "-"]
MEGABYTE = 1e6
MOST = 3  # times the repetitions, turns are taken at most
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Options:
    """How often to measure; ``is_tiny`` asks for sizes that only show that every line runs."""

    repetitions: int
    is_tiny: bool = False

    @property
    def most(self) -> int:
        """Turns at most; tiny sizes decide nothing."""
        return self.repetitions * (1 if self.is_tiny else MOST)


@dataclass(frozen=True)
class Ratio:
    """A median over turns, and the interval that it lies in."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Ratio:
        """Take the median and its interval from order statistics.

        With fewer than six values the interval is all of them, as it would have to be wider still.
        """
        ordered, n = sorted(values), len(values)
        below = 0  # how many values may be left out on either side
        while 2 * _at_most(below, n) <= 1 - CONFIDENCE:
            below += 1
        outermost = max(below - 1, 0)
        return cls(ordered[outermost], statistics.median(ordered), ordered[n - 1 - outermost])

    def __str__(self) -> str:
        return f"{self.middle:.4g} [{self.low:.4g}, {self.high:.4g}]"


def _at_most(count: int, n: int) -> float:
    """The chance that at most ``count`` of n values lie below their median."""
    return sum(math.comb(n, i) for i in range(count + 1)) / 2**n


@dataclass(frozen=True)
class Target:
    """What of a turn has to be at most how much."""

    of: Callable[[Turn], float]
    at_most: float

    def __str__(self) -> str:
        return f"≤ {self.at_most:g}"

    def ratio(self, turns: Sequence[Turn]) -> Ratio:
        """Return the median over the turns and its interval."""
        return Ratio.of([self.of(turn) for turn in turns])

    def verdict(self, turns: Sequence[Turn]) -> Verdict:
        """Say whether the whole interval is on one side."""
        ratio = self.ratio(turns)
        if ratio.high <= self.at_most:
            return "yes"
        return "no" if ratio.low > self.at_most else "undecided"


def of(name: str, *, to: str) -> Callable[[Turn], float]:
    """The ratio of one variant to another within a turn."""
    return lambda turn: turn[name] / turn[to]


@dataclass(frozen=True)
class Row:
    """A line of the table: what is measured for us, for a peer and for the limit.

    ``ratio`` is what the target speaks of.
    """

    what: str
    ours: str
    peer: str
    limit: str
    ratio: str
    target: str
    met: Verdict


def read_options(words: Sequence[str] | None, repetitions: int) -> Options:
    """Read ``--repetitions``, ``--threads`` and ``--tiny``, and set the threads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=repetitions)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="toy sizes: does every line run?")
    read = parser.parse_args(words)
    torch.set_num_threads(read.threads)
    return Options(1 if read.tiny else read.repetitions, read.tiny)


def seconds(step: Step) -> float:
    """Time one call: processor time on one thread, wall time on several."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    begun = clock()
    step()
    return clock() - begun


def take_turns(
    steps: Mapping[str, Step],
    *,
    options: Options,
    targets: Iterable[Target] = (),
    is_warm: bool = False,
) -> list[Turn]:
    """Run all ``steps`` once to warm up, unless they are long, and time them in turns."""
    for step in () if is_warm else steps.values():
        step()
    return repeat_until_decided(
        lambda: {name: seconds(step) for name, step in steps.items()}, options, targets
    )


def repeat_until_decided(
    turn: Callable[[], Turn], options: Options, targets: Iterable[Target]
) -> list[Turn]:
    """Take turns until every target is decided, or the bound is reached."""
    wanted = list(targets)
    turns = [turn() for _ in range(options.repetitions)]
    while len(turns) < options.most and any(t.verdict(turns) == "undecided" for t in wanted):
        turns += [turn() for _ in range(options.repetitions)]
    return turns


def verdict_of(value: float, at_most: float) -> Verdict:
    """Decide what is measured once, as it is the same each time."""
    return "yes" if value <= at_most else "no"


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


def measured(options: Options, function: Callable[..., Any], *positional: Any) -> Any:
    """Call a function in a fresh process, or here where sizes are too tiny for figures."""
    if options.is_tiny:
        return function(*positional)
    return in_fresh_process(function, *positional)


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


HEADS = ("what", "ours", "peer", "limit", "ratio", "target", "met")


def print_rows(title: str, rows: Iterable[Row]) -> None:
    """Print rows as a Markdown table."""
    print(f"\n{title}\n\n| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    for row in rows:
        cells = (row.what, row.ours, row.peer, row.limit, row.ratio, row.target, row.met)
        print(f"| {' | '.join(cells)} |", flush=True)


def megabytes(number: float) -> str:
    """Write a number of bytes in MB."""
    return f"{number / MEGABYTE:.0f} MB" if math.isfinite(number) else "-"
