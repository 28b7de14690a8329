"""How far an initialization has come: on a terminal, or told to a function."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from tqdm.auto import tqdm

from rankwise.core.errors import SettingsError


@dataclass(frozen=True)
class Progress:
    """How much of a stage is done.

    Attributes:
        stage: ``"gradients of batches"`` or ``"boundary matching steps"``, for example.
        done: How many.
        total: Of how many.
        seconds: Since the stage began.
    """

    stage: str
    done: int
    total: int
    seconds: float

    @property
    def seconds_left(self) -> float:
        """How long the rest takes at the pace so far."""
        return self.seconds / self.done * (self.total - self.done)


class Watch:
    """Tells of each element of a series that it is done with."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self._tell = tell

    def through(self, series: Collection[Any], stage: str) -> Watched:
        """Return the series; each time that it is gone through is a stage of that name."""
        return Watched(series, stage, self._tell)


class Watched(Collection[Any]):
    """A series of known length that tells how far one has come in it."""

    def __init__(
        self, series: Collection[Any], stage: str, tell: Callable[[Progress], None]
    ) -> None:
        self._series = series
        self._stage = stage
        self._tell = tell

    def __len__(self) -> int:
        return len(self._series)

    def __contains__(self, element: object) -> bool:
        return element in self._series

    def __iter__(self) -> Iterator[Any]:
        started, total = time.perf_counter(), len(self)
        for done, element in enumerate(self._series, start=1):
            yield element
            self._tell(Progress(self._stage, done, total, time.perf_counter() - started))


@contextlib.contextmanager
def shown(progress: bool | Callable[[Progress], None] | None) -> Iterator[Watch]:
    """Return what tells ``progress``: a function, or a bar on a terminal (None and True)."""
    if callable(progress):
        yield Watch(progress)
    elif progress is False:
        yield Watch(lambda _: None)
    elif progress in (None, True):
        with contextlib.closing(_Bar()) as bar:
            yield Watch(bar.show)
    else:
        raise SettingsError(f"progress must be a function, True, False or None, got {progress!r}")


class _Bar:
    """One bar a stage, on the standard error output, if that is a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage: str | None = None

    def show(self, progress: Progress) -> None:
        """Draw it."""
        if self._stage != progress.stage or progress.done == 1:
            self.close()
            self._stage = progress.stage
            self._bar = tqdm(desc=progress.stage, total=progress.total, disable=None, leave=False)
        self._bar.update()

    def close(self) -> None:
        """Take the bar off."""
        if self._bar is not None:
            self._bar.close()
