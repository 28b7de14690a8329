"""A metric by its name: one of ours, or a function of the user's, ``MODULE:FUNCTION``."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from rankwise.core.errors import SettingsError, nearest_names
from rankwise.core.plugins import check_plugins
from rankwise.evaluation.metrics import METRICS, Metric


@lru_cache
def find_metric(name: str) -> Metric:
    """Return the metric of that name.

    ``MODULE:FUNCTION`` is a function of the user's, in a module that they named: see
    ``core/plugins.py``. It takes predictions and labels, one a row, as the metrics of
    ``evaluation/metrics.py`` do, and returns a number, which grows as models get better.

    Raises:
        SettingsError: There is none, or what it needs is not installed.
    """
    module, colon, function = name.partition(":")
    if not colon:
        if name not in METRICS:
            raise SettingsError(f"no metric {name!r}; {nearest_names(name, METRICS)}")
        package = METRICS[name].package
        if package is not None and importlib.util.find_spec(package) is None:
            raise SettingsError(
                f"metric {name} needs the package {package.replace('_', '-')}: "
                "pip install 'rankwise[rouge]'"
            )
        return METRICS[name]
    check_plugins([module], what=f"metric {name!r}")
    found = getattr(importlib.import_module(module), function, None)
    if found is None:
        raise SettingsError(f"metric {name!r}: {module} has no {function!r}")
    if not callable(found):
        raise SettingsError(f"metric {name!r} must be a function, got {type(found).__name__}")
    return Metric(_checked(name, found), -math.inf, math.inf)


def _checked(name: str, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], float]:
    def compute(predictions: Any, labels: Any) -> float:
        value = function(list(predictions), list(labels))
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise SettingsError(f"metric {name!r} must return a number, got {value!r}") from None
        if not math.isfinite(number):
            raise SettingsError(f"metric {name!r} must return a finite number, got {number}")
        return number

    return compute
