"""What pydantic has against settings, told in the words of the recipe: one line each."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from rankwise.core.errors import nearest_names
from rankwise.training.settings.kinds import Kinds

Location = tuple[str | int, ...]


def explain(error: ValidationError, root: type[BaseModel], *, place: str = "") -> str:
    """Return a line for each mistake.

    Args:
        error: What pydantic raised.
        root: The settings class that was to be made.
        place: Where in a recipe its settings stand.
    """
    lines = []
    errors = error.errors()
    for each in errors:
        if _is_told_by_its_items(each["loc"], errors) or _is_inherited(each, errors):
            continue
        inner, siblings = _place(each["loc"], root)
        where = ".".join(filter(None, (place, inner)))
        message = each["msg"].removeprefix("Value error, ")
        if each["type"] == "extra_forbidden":
            message = f"unknown setting; {nearest_names(str(each['loc'][-1]), siblings)}"
        elif each["type"] == "union_tag_invalid":
            context = each.get("ctx", {})
            where += f".{context['discriminator'].strip(chr(39))}"
            message = f"no {context['tag']!r}; {_nearest_tags(context)}"
        elif each["type"] != "value_error":
            message = f"{message}, got {each['input']!r}"
        lines.append(f"{where}: {message}" if where else message)
    return "\n".join(lines)


def _is_told_by_its_items(location: Location, errors: Sequence[Any]) -> bool:
    # A list whose items are wrong is also called too short: the items say it better.
    return any(
        each["loc"][: len(location)] == location and each["loc"] != location for each in errors
    )


def _is_inherited(error: Any, errors: Sequence[Any]) -> bool:
    """Say whether a method of the comparison only has the recipe's own method's mistake."""
    match error["loc"]:
        case ("compare", "methods", int(), *rest):
            own = ("method", *rest), error["type"], repr(error["input"])
            return own in ((each["loc"], each["type"], repr(each["input"])) for each in errors)
        case _:
            return False


def _nearest_tags(context: dict[str, str]) -> str:
    tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
    return nearest_names(context["tag"], tags)


def _place(location: Location, root: type[BaseModel]) -> tuple[str, set[str]]:
    """Return the dotted name of ``location`` and the settings that exist beside its last part.

    Pydantic puts the tag of a union of settings into the location; it is no part of the name.
    """
    place, classes, siblings = "", {root}, set[str]()
    for part in location:
        fields = {name for kind in classes for name in kind.model_fields}
        if isinstance(part, int):
            place += f"[{part}]"
        elif tagged := {kind for kind in classes if part == _tag(kind) and part not in fields}:
            classes = tagged
        else:
            place += f".{part}"
            siblings = fields
            classes = {inner for kind in classes for inner in _settings_in(kind, part)}
    return place.removeprefix("."), siblings


def _tag(kind: type[BaseModel]) -> Any:
    """Return the one value that a field of ``kind`` can have: it tells it from its siblings."""
    for field in kind.model_fields.values():
        values = typing.get_args(field.annotation)
        if typing.get_origin(field.annotation) is typing.Literal and len(values) == 1:
            return values[0]
    return None


def _settings_in(kind: type[BaseModel], name: str) -> set[type[BaseModel]]:
    """Return the settings classes in the annotation of one field."""
    if name not in kind.model_fields:
        return set()
    field, found = kind.model_fields[name], set[type[BaseModel]]()
    for each in field.metadata:
        if isinstance(each, Kinds):  # which has more of them where a plugin adds some
            found.update(each.classes)
    open_types: list[Any] = [field.annotation]
    while open_types:
        annotation = open_types.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.add(annotation)
        open_types += typing.get_args(annotation)
    return found
