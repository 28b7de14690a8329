"""Laying settings over settings: a recipe, what it says of a task, its variant, options."""

from __future__ import annotations

from typing import Any

Tree = dict[str, Any]


def laid_over(below: Tree, above: Tree) -> Tree:
    """Return ``below`` with ``above`` on top, section by section.

    A section whose ``kind`` changes starts from its own defaults.
    """
    laid = dict(below)
    for key, value in above.items():
        under = below.get(key)
        is_same_kind = (
            isinstance(value, dict)
            and isinstance(under, dict)
            and value.get("kind", under.get("kind")) == under.get("kind")
        )
        laid[key] = laid_over(under, value) if is_same_kind and isinstance(under, dict) else value
    return laid


def insert(tree: Tree, name: str, value: Any) -> None:
    """Set the dotted setting ``name`` in ``tree``, making the sections above it."""
    *parents, last = name.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[last] = value
