"""The settings of shipped recipes by the names of the tables in docs/fidelity.md."""

from __future__ import annotations

import re
from functools import cache, reduce
from typing import Any

import yaml

from rankwise.training.settings.recipe import Recipe, load_recipe
from rankwise.training.settings.written import as_yaml

# The form of a recipe that follows the published schedule, where it is not the plain one.
VARIANTS = {"rac-mnist": "full"}
_NAME = re.compile(r"(?:\[(?P<of>[\w-]+)\] )?(?P<path>[\w.]+)")


@cache
def recipe(name: str, task: str | None = None) -> Recipe:
    """Load a shipped recipe, for one of its tasks."""
    overrides = {} if task is None else {"task": {"name": task}}
    return load_recipe(name, overrides, variant=VARIANTS.get(name))


def value_of(name: str, row: str) -> Any:
    """Return the value of ``setting``, ``[task] setting`` or ``[method] setting``."""
    found = _NAME.fullmatch(row)
    assert found is not None, row
    of, path = found["of"], found["path"]
    root: Any = recipe(name)
    if of is not None:
        methods = [each for each in root.compare.methods if each.title == of]
        root = methods[0] if methods else recipe(name, of)
    return reduce(getattr, path.split("."), root)


def plain(value: Any) -> str:
    """Return a value as a cell of a table has it; 3e-4, 0.0003 and 3.0e-04 are one."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return as_yaml(value)
    if isinstance(value, int | float):
        return f"{value:g}"
    return "[" + ", ".join(plain(each) for each in value) + "]"


def read_data(text: str) -> dict[str, Any]:
    """Read the data file of published values."""
    return yaml.safe_load(text)
