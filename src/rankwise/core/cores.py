"""How many cores there are for this process; commands ask before anything heavy is imported."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Return how many cores this process may use: a batch system or taskset leaves it some."""
    if hasattr(os, "sched_getaffinity"):  # on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
