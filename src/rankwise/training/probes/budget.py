"""The rank at which a method trains as many parameters as it may, and not more.

What trains is a polynomial of the rank, of degree one or two, as long as no layer is smaller than
the rank. Three counts give the polynomial, one more checks what it says; where that fails, the rank
is searched for.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from rankwise.core.errors import ModelError, SettingsError
from rankwise.training.loops.results import count_parameters
from rankwise.training.probes.dry_run import rehearsed_model
from rankwise.training.settings.run import RunSettings


class Fitted(NamedTuple):
    """A rank, and how many parameters train at it."""

    r: int
    parameters: int


def fit_rank(settings: RunSettings, budget: int) -> Fitted:
    """Return the greatest rank at which the run's adapter trains at most ``budget`` parameters.

    A head that trains beside every method does not count.

    Raises:
        SettingsError: Rank 1 trains more.
        ModelError: No configuration of the model is at hand.
    """
    least = _count(settings, 1)
    if least is None or least > budget:
        raise SettingsError(
            f"a budget of {budget:,} parameters is too small for {settings.method.title}: at rank "
            f"1 it trains {least or 0:,}"
        )
    guess = _solved(settings, least, budget)
    found = None if guess is None else _count(settings, guess)
    if guess is not None and found is not None and found <= budget:
        above = _count(settings, guess + 1)
        if above is None or above > budget:
            return Fitted(guess, found)
    return _searched(settings, Fitted(1, least), budget)


def adapter_parameters(settings: RunSettings) -> int:
    """Return how many parameters of the run's adapter train."""
    _, model = rehearsed_model(settings)
    return count_parameters(model).adapter


def _count(settings: RunSettings, r: int) -> int | None:
    """Return how many parameters train at rank ``r``, or None if a layer is too small for it."""
    method = settings.method.model_copy(update={"r": r})
    try:
        return adapter_parameters(settings.model_copy(update={"method": method}))
    except (SettingsError, ModelError):
        if r == 1:
            raise
        return None


def _solved(settings: RunSettings, least: int, budget: int) -> int | None:
    """Return the rank of the budget by the polynomial through ranks 1, 2 and 3."""
    two, three = _count(settings, 2), _count(settings, 3)
    if two is None or three is None:
        return None
    square = (three - 2 * two + least) / 2
    linear = two - least - 3 * square
    constant = least - square - linear
    if square <= 0:
        return int((budget - constant) // linear) if linear > 0 else None
    root = math.sqrt(linear**2 - 4 * square * (constant - budget))
    return int((root - linear) // (2 * square))


def _searched(settings: RunSettings, low: Fitted, budget: int) -> Fitted:
    """Double the rank until it is too large, then halve the interval."""
    high = low.r * 2
    while (count := _count(settings, high)) is not None and count <= budget:
        if count == low.parameters:
            return low  # it no longer grows with the rank
        low, high = Fitted(high, count), high * 2
    while high - low.r > 1:
        middle = (low.r + high) // 2
        count = _count(settings, middle)
        if count is not None and count <= budget:
            low = Fitted(middle, count)
        else:
            high = middle
    return low
