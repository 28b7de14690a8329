"""The grid of a compared method: which of its settings are tried, and with which values.

Settings are named as in the method's entry: ``learning_rate`` (of ``training``), ``adapter.alpha``,
``init.margin``, ``schedule.every_epochs``, ``training.weight_decay``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, StrictBool, StrictFloat, StrictInt, StrictStr

from rankwise.training.settings.layers import Tree

RATE = "learning_rate"
METHOD_PARTS = ("adapter", "init", "schedule")

# Strict, so that no value becomes one of another type that equals it.
Value: TypeAlias = StrictBool | StrictInt | StrictFloat | StrictStr


def flat(grid: Any, prefix: str = "") -> Any:
    """Return a grid with its settings by their dotted names, however it was nested."""
    if not isinstance(grid, dict):
        return grid
    found: Tree = {}
    for key, value in grid.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: _as_list(value)}
    return found


def _as_list(values: Any) -> Any:
    return [values] if isinstance(values, bool | int | float | str) else values


Grid: TypeAlias = Annotated[dict[str, tuple[Value, ...]], BeforeValidator(flat)]


@dataclass(frozen=True)
class GridPoint:
    """One combination of the values of a grid."""

    learning_rate: float
    others: tuple[tuple[str, Value], ...] = ()

    def __str__(self) -> str:
        others = "".join(f", {name} {value}" for name, value in self.others)
        return f"learning rate {self.learning_rate:g}{others}"


def points_of(grid: Mapping[str, Sequence[Any]]) -> list[GridPoint]:
    """Return every combination of the values of a grid.

    >>> points_of({"learning_rate": [0.1], "adapter.alpha": [8, 16]})[1]
    GridPoint(learning_rate=0.1, others=(('adapter.alpha', 16),))
    """
    names = [name for name in grid if name != RATE]
    return [
        GridPoint(float(rate), tuple(zip(names, values, strict=True)))
        for values in itertools.product(*(grid[name] for name in names))
        for rate in grid[RATE]
    ]


def read_point(settings: Mapping[str, Any], names: Sequence[str]) -> GridPoint:
    """Return where in the grid of ``names`` a run lies, by its settings as its record has them."""
    others = [(name, _value_in(settings, name)) for name in names if name != RATE]
    return GridPoint(settings["training"][RATE], tuple(others))


def _value_in(settings: Mapping[str, Any], name: str) -> Any:
    parts = name.split(".")
    node: Any = settings if parts[0] == "training" else settings["method"]
    for part in parts:
        # Settings that came after the run was recorded are not in it.
        node = node.get(part) if isinstance(node, Mapping) else None
    return node
