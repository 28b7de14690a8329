"""An ablation: the recipe's own method, once for each value of the settings that are varied."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from rankwise.core.errors import SettingsError
from rankwise.training.settings.layers import insert

Tree = dict[str, Any]
VARIED_SECTIONS = ("method", "task", "training")
_SCALARS = (bool, int, float, str)


def varied_methods(name: str, variations: Mapping[str, Sequence[Any]]) -> list[Tree]:
    """Return the methods of a comparison: ``name`` with each combination of the values.

    >>> varied_methods("abm-lora", {"method.init.margin": [0.5]})
    [{'name': 'abm-lora', 'label': 'margin=0.5', 'init': {'margin': 0.5}}]

    Args:
        name: Of the recipe's own method.
        variations: Values by dotted setting, below ``method``, ``task`` or ``training``.

    Raises:
        SettingsError: A setting is not one that can be varied, or its values are no list of
            different numbers, words and switches.
    """
    for key, values in variations.items():
        _check(key, values)
    methods = []
    for combination in itertools.product(*variations.values()):
        label = ",".join(
            f"{key.rpartition('.')[2]}={_word(value)}"
            for key, value in zip(variations, combination, strict=True)
        )
        method: Tree = {"name": name, "label": label}
        for key, value in zip(variations, combination, strict=True):
            insert(method, key.removeprefix("method."), value)
        methods.append(method)
    return methods


def _check(key: str, values: Sequence[Any]) -> None:
    section, _, rest = key.partition(".")
    if section not in VARIED_SECTIONS or not rest or key == "training.learning_rate":
        raise SettingsError(
            f"--vary takes a setting of {', '.join(VARIED_SECTIONS)}, such as method.r, got "
            f"{key!r}; learning rates are compare.learning_rates, seeds compare.seeds"
        )
    if not all(isinstance(value, _SCALARS) for value in values) or len(set(values)) < len(values):
        raise SettingsError(f"--vary {key} takes different single values, got {list(values)}")


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"
