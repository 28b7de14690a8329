"""A recipe written as YAML with every setting as it is used, each with what it means.

What is written is read as the same recipe: ``load_recipe`` of the file gives what was written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import yaml

from rankwise.training.settings.catalogue import settings_named
from rankwise.training.settings.layers import Tree
from rankwise.training.settings.method import MethodSettings
from rankwise.training.settings.named_methods import fill_method
from rankwise.training.settings.recipe import Recipe
from rankwise.training.settings.task import TaskSettings


def write_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML."""
    tree = recipe.model_dump(mode="json")
    del tree["raclora"]  # it has become settings of the others
    if recipe.compare is None:
        del tree["compare"]
    else:
        entries = [_entry(method, tree["method"]) for method in tree["compare"]["methods"]]
        tree["compare"]["methods"] = entries
    return "\n".join(_section(tree, above="", kind=_kind_of(recipe.task))) + "\n"


def _kind_of(task: TaskSettings) -> str:
    """Name the settings of a task as the catalogue does: by their one name, or by their class."""
    names = get_args(type(task).model_fields["name"].annotation)
    return names[0] if len(names) == 1 else type(task).__name__.removesuffix("Settings").lower()


def as_yaml(value: Any) -> str:
    """Return ``value`` as YAML on one line."""
    text = _dumped(value, allow_unicode=True)
    # YAML takes these for ends of lines, and PyYAML writes them so that they are read as blanks.
    if any(end in text for end in "\x85\u2028\u2029"):
        text = _dumped(value, allow_unicode=False)
    return text.removesuffix("...\n").strip()


def _dumped(value: Any, *, allow_unicode: bool) -> str:
    return yaml.safe_dump(
        value, default_flow_style=True, width=10**6, allow_unicode=allow_unicode, sort_keys=False
    )


def _section(tree: Tree, *, above: str, kind: str) -> Iterator[str]:
    """Yield the lines of a section; ``kind`` tells which of several settings of a name is meant."""
    indent = "  " * above.count(".")
    for key, value in tree.items():
        name = f"{above}{key}"
        if name == "compare.methods":
            yield f"{indent}{key}:"
            yield from (f"{indent}  - {as_yaml(entry)}" for entry in value)
        elif isinstance(value, dict) and not settings_named(name):
            yield from ("", f"{key}:") if not above else (f"{indent}{key}:",)
            yield from _section(value, above=f"{name}.", kind=value.get("kind", kind))
        else:
            comment = _comment(name, kind)
            yield f"{indent}{key}: {as_yaml(value)}{comment}"


def _comment(name: str, kind: str) -> str:
    settings = settings_named(name)
    meant = next((each for each in settings if not each.of or kind in each.of), None)
    if meant is None:
        return ""
    is_told = meant.unit in ("", "number", "ratio") or meant.unit in meant.meaning
    unit = "" if is_told else f" ({meant.unit})"
    return f"  # {meant.meaning}{unit}"


def _entry(method: Tree, own: Tree) -> Tree:
    """Return what an item of a comparison adds to what its name stands for in this recipe."""
    filled = fill_method({"name": method["name"]}, place="compare.methods", own=own)
    plain = MethodSettings.model_validate(filled).model_dump(mode="json")
    plain |= {"task": {}, "training": {}, "sweep": {}}
    return {"name": method["name"], **_difference(method, plain)}


def _difference(tree: Tree, below: Tree) -> Tree:
    """Return what, laid over ``below``, gives ``tree``."""
    changed: Tree = {}
    for key, value in tree.items():
        under = below.get(key)
        if value == under:
            continue
        if isinstance(under, dict) and "kind" in value and value["kind"] == under["kind"]:
            value = _difference(value, under)
        changed[key] = value
    return changed
