"""A method's name filled with what it stands for: its row in the table of methods.

A name means its row, always (``methods/table.py``). What a recipe adds for a method stands in that
method's entry: the section ``method``, or an item of ``compare.methods``. Naming another than the
recipe's own method therefore goes to that one's entry. Where there is none, what the new row leaves
open stays as the recipe has it: the rank, the layers that are adapted, and what is set of a part of
the same kind.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from rankwise.core.errors import SettingsError
from rankwise.methods.table import find_method
from rankwise.training.settings.layers import Tree, laid_over
from rankwise.training.settings.method import MethodSettings

_PUBLISHED = ("published", "published_parameters")
_OF_ONE_NAME = ("label", *_PUBLISHED)
# What an item of a comparison may have beside the settings of a method.
_OF_THE_RUN = ("task", "training")
_OF_THE_COMPARISON = ("sweep",)


def begin_method(method: Any) -> Tree:
    """Return what a recipe says of its own method, with its name and the kinds of its parts."""
    method = _as_tree(method, "method")
    return _laid_over_kinds({**method, "name": _name_of(method)})


def change_method(own: Tree, change: Any, *, entries: list[Any]) -> tuple[Tree, Tree]:
    """Lay ``change`` over the recipe's own method; where it names another, begin with its entry.

    Args:
        own: As :func:`begin_method` or this function returned it.
        change: What a stronger layer says of the method, or its name.
        entries: The items of ``compare.methods``.

    Returns:
        The method, and what the entry has of its own for the sections ``task`` and ``training``.
    """
    change, of_the_run = _as_tree(change, "method"), {}
    name = _name_of(change, default=own["name"])
    if name != own["name"]:
        entry = _entry_of(name, entries, r=change.get("r", own.get("r")))
        if entry is None:
            own = _kept_for(name, own)
        else:
            of_the_run = {key: entry[key] for key in _OF_THE_RUN if key in entry}
            r = {"r": own["r"]} if "r" in own else {}
            left_out = (*_OF_ONE_NAME, *_OF_THE_RUN, *_OF_THE_COMPARISON)
            if change.get("r", entry.get("r")) != entry.get("r"):
                entry = _without_rank(entry)
            own = r | {key: value for key, value in entry.items() if key not in left_out}
    return laid_over(_laid_over_kinds({**own, "name": name}), change), of_the_run


def fill_method(method: Any, *, place: str, own: Tree | None = None) -> Tree:
    """Fill what a method leaves open: from ``own`` if it bears the same name, then from its row.

    A part of ``own`` of another kind than the name stands for was meant for the single run, and
    what was published of ``own`` says nothing of a method at another rank or with other settings.

    Raises:
        SettingsError: ``method`` is neither a name nor a mapping, or nobody knows the name.
    """
    method = _as_tree(method, place)
    name = _name_of(method)
    row = find_method(name).parts()
    if own is not None and name == own["name"]:
        row = laid_over(row, {key: value for key, value in own.items() if _fits(key, value, row)})
        if not _is_same_run(method, row):
            row = {key: value for key, value in row.items() if key not in _PUBLISHED}
    return laid_over(row, {**method, "name": name})


def _is_same_run(method: Tree, own: Tree) -> bool:
    """Say whether an entry, laid over the recipe's own method, leaves what is run as it is."""
    if any(method.get(key) for key in _OF_THE_RUN):
        return False
    left_out = (*_OF_THE_RUN, *_OF_THE_COMPARISON, *_PUBLISHED)
    beside = {"name": method.get("name", own.get("name")), "budget": "", "label": None}
    plain = {key: value for key, value in method.items() if key not in left_out}
    try:
        there, here = (
            MethodSettings.model_validate({**tree, **beside})
            for tree in (own, laid_over(own, plain))
        )
    except ValidationError:  # told when the recipe is validated
        return True
    return there == here


def select_entries(names: Any, entries: list[Any]) -> Any:
    """Put the recipe's entries of a method into the place of its mere name in a list of methods.

    A name means the entries that tables call so; where there are none, those of the method.
    """
    if not isinstance(names, list):
        return names
    selected = []
    for item in names:
        same = []
        if isinstance(item, str):
            same = [entry for entry in entries if _title_of(entry) == item]
            same = same or [entry for entry in entries if _is_named(entry, item)]
        selected += same or [item]
    return selected


def _as_tree(method: Any, place: str) -> Tree:
    if isinstance(method, str):
        return {"name": method}
    if not isinstance(method, dict):
        raise SettingsError(f"{place} must be a method's name or a mapping, got {method!r}")
    return method


def _name_of(method: Tree, *, default: str = "lora") -> str:
    return str(method.get("name", default))


def _title_of(entry: Any) -> Any:
    return entry.get("label") or _name_of(entry) if isinstance(entry, dict) else entry


def _is_named(entry: Any, name: str) -> bool:
    return entry == name or (isinstance(entry, dict) and _name_of(entry) == name)


def _entry_of(name: str, entries: list[Any], *, r: Any) -> Tree | None:
    """Return the entry of a method: of several that of rank ``r``, or else the first."""
    found = [_as_tree(entry, "compare.methods") for entry in entries if _is_named(entry, name)]
    return next((entry for entry in found if entry.get("r") == r), found[0] if found else None)


def _without_rank(entry: Tree) -> Tree:
    """Return an entry without what goes with its rank alone."""
    without = {key: value for key, value in entry.items() if key not in ("r", "budget")}
    adapter = without.get("adapter")
    if isinstance(adapter, dict):
        without["adapter"] = {k: v for k, v in adapter.items() if k != "rank_pattern"}
    return without


def _kept_for(name: str, own: Tree) -> Tree:
    """Return what the method ``name``, which has no entry, keeps of ``own``."""
    row = find_method(name).parts()
    kept = {key: value for key, value in own.items() if key not in (*_OF_ONE_NAME, *row)}
    for part, values in row.items():
        given = own.get(part)
        if _fits(part, given, row) and isinstance(given, dict):
            kept[part] = {key: value for key, value in given.items() if key not in values}
    adapter = own.get("adapter")
    if row["adapter"]["kind"] != "full" and isinstance(adapter, dict):
        kept["adapter"] = {
            key: value for key, value in adapter.items() if key == "target_modules"
        } | kept.get("adapter", {})
    return kept


def _fits(part: str, value: Any, row: Tree) -> bool:
    """Say whether ``value`` is of the kind that the row has for this part, or no part at all."""
    # What is no mapping at all is told as what it is when the settings are validated.
    return part not in row or not isinstance(value, dict) or value.get("kind") == row[part]["kind"]


def _laid_over_kinds(method: Tree) -> Tree:
    row = find_method(method["name"]).parts()
    return laid_over({part: {"kind": values["kind"]} for part, values in row.items()}, method)
