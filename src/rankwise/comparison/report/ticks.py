"""Ticks of a logarithmic axis that a reader can read off, however short it is, with their units."""

from __future__ import annotations

import math
from collections.abc import Mapping

_FEWEST, _MOST = 3, 4  # more with their units have no room on a phone
_WIDE = 100  # beyond this ratio each tick has a unit of its own


def ticks(low: float, high: float, *, units: Mapping[str, float]) -> tuple[list[float], list[str]]:
    """Return where ticks stand between two costs above 0, and what is written there.

    >>> ticks(1.3e6, 2.9e6, units={"": 1, "k": 1e3, "M": 1e6})
    ([1500000.0, 2000000.0, 2500000.0], ['1.5M', '2M', '2.5M'])

    Args:
        low: The lower end of the axis.
        high: The upper end.
        units: From the smallest, with how much they are.
    """
    middle = _unit(math.sqrt(low * high), units)
    places = _places(low / units[middle], high / units[middle])
    at = [place * units[middle] for place in places[:: -(-len(places) // _MOST)]]
    of = [_unit(tick, units) if high > _WIDE * low else middle for tick in at]
    return at, [f"{tick / units[unit]:.4g}{unit}" for tick, unit in zip(at, of, strict=True)]


def _places(low: float, high: float) -> list[float]:
    """Return powers of ten; if they are too few, twos and fives too, or equal steps."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 2, 5)):
        found = [digit * 10.0**power for power in powers for digit in digits]
        if len(inside := [each for each in found if low <= each <= high]) >= _FEWEST:
            return inside
    rough = (high - low) / _FEWEST
    power = 10.0 ** math.floor(math.log10(rough))
    step = max(digit * power for digit in (1, 2, 2.5, 5) if digit * power <= rough)
    return [step * each for each in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _unit(value: float, units: Mapping[str, float]) -> str:
    first, *rest = units
    return next((unit for unit in reversed(rest) if units[unit] <= value), first)
