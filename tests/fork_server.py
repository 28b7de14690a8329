"""A process that has imported what workers need, once for all tests, and forks one in no time."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver

PRELOADED = ["rankwise.comparison.sweep", "rankwise.training.run", "transformers.trainer"]


def start() -> None:
    """Start it, unless it is there."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    multiprocessing.forkserver.ensure_running()
