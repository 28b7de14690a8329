"""Recipes: a shipped name or a YAML file, with dotted overrides, read strictly into settings."""

from __future__ import annotations

import typing
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from rankwise.core.errors import SettingsError, nearest_names
from rankwise.methods.table import find_method
from rankwise.training.settings.run import Recipe, RunSettings

Tree = dict[str, Any]
_OF_ONE_NAME = ("name", "label", "published", "published_parameters")


def recipe_names() -> list[str]:
    """Return the names of the recipes that ship with Rankwise."""
    folder = resources.files("rankwise") / "recipes"
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )


def recipe_summary(name: str) -> str:
    """Return the comment on the first line of a shipped recipe."""
    text = (resources.files("rankwise") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    return text.splitlines()[0].removeprefix("#").strip()


def load_recipe(name: str, overrides: Tree | None = None, *, variant: str | None = None) -> Recipe:
    """Load the recipe ``name`` (shipped, or the path of a YAML file) with ``overrides`` on top.

    Between the two lie, in this order, the recipe's settings for the task (a key of its ``tasks``)
    and its variant (a key of its ``variants``, such as ``quick``). A method of the comparison that
    bears the name of the recipe's ``method`` begins with that one's settings.

    Raises:
        SettingsError: No such recipe, YAML that cannot be read, an unknown key or a wrong value.
    """
    tree = _read_yaml(name)
    overrides = overrides or {}
    for_tasks, variants = (_named_trees(tree, key, name) for key in ("tasks", "variants"))
    if variant is not None and variant not in variants:
        known = ", ".join(sorted(variants)) or "none"
        raise SettingsError(f"recipe {name} has no variant {variant!r}; it has {known}")
    task = _merged(tree, overrides).get("task")
    task_name = str(task.get("name")) if isinstance(task, dict) else ""
    tree["method"] = _with_named_parts(tree.get("method", {}), place="method")
    for above in (for_tasks.get(task_name, {}), variants.get(variant or "", {}), overrides):
        own = tree["method"]
        tree = _merged(tree, above)
        if "method" in above:
            tree["method"] = _with_named_parts(above["method"], place="method", own=own)
    comparison = tree.get("compare")
    if isinstance(comparison, dict) and isinstance(comparison.get("methods"), list):
        methods = [
            _compared(method, place=f"compare.methods[{position}]", own=tree["method"])
            for position, method in enumerate(comparison["methods"])
        ]
        tree["compare"] = {**comparison, "methods": methods}
    return _validated(tree)


def settings_of_run(tree: Tree) -> RunSettings:
    """Return the settings of one run; a method that is only named is filled from the table.

    Raises:
        SettingsError: An unknown key or a wrong value.
    """
    return _validated(tree | {"method": _with_named_parts(tree["method"], place="method")}).run()


def _validated(tree: Tree) -> Recipe:
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_explain(error.errors())) from None


def _read_yaml(name: str) -> Tree:
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise SettingsError(f"no recipe file {name}: check the path")
        text = _text_of(path)
    elif name in recipe_names():
        text = (resources.files("rankwise") / "recipes" / f"{name}.yaml").read_text(
            encoding="utf-8"
        )
    else:
        raise SettingsError(
            f"no recipe {name!r} (a file must end in .yaml); {nearest_names(name, recipe_names())}"
        )
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also 2001-99-99, deep nesting
        raise SettingsError(f"recipe {name} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"recipe {name} must hold a mapping, got {type(tree).__name__}")
    return tree


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"recipe {path} cannot be read: {error}") from None


def _named_trees(tree: Tree, key: str, recipe: str) -> dict[str, Tree]:
    """Take the section ``key``, which maps names to settings, out of a recipe."""
    section = tree.pop(key, {})
    if not isinstance(section, dict) or not all(
        isinstance(each, dict) for each in section.values()
    ):
        raise SettingsError(f"{key} of recipe {recipe} must map names to settings, got {section!r}")
    return {str(name): each for name, each in section.items()}


def _with_named_parts(method: Any, *, place: str, own: Tree | None = None) -> Tree:
    """Fill what ``method`` leaves open from ``own``, or else from the table of named methods.

    Of an own method that bears another name only what fits the new one stays, and not what a paper
    says of it.
    """
    method = _named(method, place)
    own = own or {}
    name = str(method.get("name", own.get("name", "lora")))
    if own and name != own["name"]:
        fitting = _fitting(own, name)
        own = {key: value for key, value in fitting.items() if key not in _OF_ONE_NAME}
    return _merged(_merged(find_method(name).parts(), own), method | {"name": name})


def _compared(method: Any, *, place: str, own: Tree) -> Tree:
    """Fill a method of the comparison; one that bears the name of ``own`` begins with it.

    A part of another kind than that name stands for was meant for the single run.
    """
    method = _named(method, place)
    is_own = method.get("name", "lora") == own["name"]
    return _with_named_parts(
        method, place=place, own=_fitting(own, own["name"]) if is_own else None
    )


def _named(method: Any, place: str) -> Tree:
    if isinstance(method, str):
        return {"name": method}
    if not isinstance(method, dict):
        raise SettingsError(f"{place} must be a method's name or a mapping, got {method!r}")
    return method


def _fitting(method: Tree, name: str) -> Tree:
    """Return ``method`` without its parts of another kind than ``name`` stands for."""
    parts = find_method(name).parts()
    return {
        key: value
        for key, value in method.items()
        # What is no mapping at all is told as what it is when the settings are validated.
        if key not in parts
        or not isinstance(value, dict)
        or value.get("kind") == parts[key]["kind"]
    }


def _merged(below: Tree, above: Tree) -> Tree:
    """Lay ``above`` over ``below``; a part whose ``kind`` changes starts from its own defaults."""
    merged = dict(below)
    for key, value in above.items():
        under = below.get(key)
        same_kind = (
            isinstance(value, dict)
            and isinstance(under, dict)
            and value.get("kind", under.get("kind")) == under.get("kind")
        )
        merged[key] = _merged(under, value) if same_kind and isinstance(under, dict) else value
    return merged


def _explain(errors: list[Any]) -> str:
    """Turn pydantic's errors into one line each, in the words of the recipe."""
    lines = []
    for error in errors:
        location = error["loc"]
        # A list whose items are wrong is also called too short: the items say it better.
        if any(other["loc"][: len(location)] == location != other["loc"] for other in errors):
            continue
        place, siblings = _place(location)
        message = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            message = f"unknown setting; {nearest_names(str(location[-1]), siblings)}"
        elif error["type"] == "union_tag_invalid":
            place += f".{error['ctx']['discriminator'].strip(chr(39))}"
            message = f"no {error['ctx']['tag']!r}; {_nearest_tags(error['ctx'])}"
        elif error["type"] != "value_error":
            message = f"{message}, got {error['input']!r}"
        lines.append(f"{place}: {message}")
    return "\n".join(lines)


def _nearest_tags(context: dict[str, str]) -> str:
    tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
    return nearest_names(context["tag"], tags)


def _place(location: tuple[str | int, ...]) -> tuple[str, set[str]]:
    """Return the dotted name of ``location`` and the settings that exist beside its last part.

    Pydantic puts the tag of a union of settings into the location; it is no part of the name.
    """
    place, classes, siblings = "", {Recipe}, set[str]()
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
    return place.removeprefix(".") or "recipe", siblings


def _tag(kind: type[BaseModel]) -> Any:
    """Return the one value that a field of ``kind`` can have: it tells it from its siblings."""
    for field in kind.model_fields.values():
        values = typing.get_args(field.annotation)
        if typing.get_origin(field.annotation) is typing.Literal and len(values) == 1:
            return values[0]
    return None


def _settings_in(kind: type[BaseModel], name: str) -> set[type[BaseModel]]:
    """Return the settings classes in the annotation of one field."""
    found, open_types = (
        set(),
        [kind.model_fields[name].annotation] if name in kind.model_fields else [],
    )
    while open_types:
        annotation = open_types.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.add(annotation)
        open_types += typing.get_args(annotation)
    return found
