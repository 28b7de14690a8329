"""Numbers and lists as the page writes them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

NOTHING = "There is nothing to draw."


def size(count: float) -> str:
    """Write a number of bytes with three digits: ``1.2 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration(seconds: float) -> str:
    """Write a time in a fitting unit: ``42 ms``, ``4.2 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def signed(difference: float) -> str:
    """Write a difference with its sign, a typographic minus included: ``−0.012``."""
    return negative(f"{difference:+z.3f}")


def negative(number: str) -> str:
    """Write a typographic minus: ``−0.012``."""
    return number.replace("-", "−")


def points(difference: float | None) -> str:
    """Write a difference of scores in points, which are hundredths: ``+9.1``."""
    return "–" if difference is None else negative(f"{100 * difference:+z.1f}")


def listed(items: Sequence[str], *, opening: str = "") -> str:
    """Join the items of a caption behind its opening; say so where there are none."""
    if not items:
        return NOTHING
    return (f"{opening}. " if opening else "") + "; ".join(items) + "."


def on_lines(command: str) -> str:
    """Write a command with each option on a line of its own, as a shell takes it.

    What is no command of a shell, as a record from elsewhere may have it, is left as it is.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    lines: list[list[str]] = [[]]
    for word in words:
        lines += [[]] if word.startswith("--") else []
        lines[-1].append(shlex.quote(word))
    return " \\\n  ".join(map(" ".join, lines))
