"""All settings by their dotted names, read off the settings' own types.

Lists, help, completion and the reading of options come from here, and from here alone. A name may
stand for several settings: ``method.adapter.alpha`` is one of LoRA's and one of LoRA-XS's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rankwise.training.settings.kinds import Kinds
from rankwise.training.settings.recipe import Recipe

Schema = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: Such as ``training.epochs``.
        of: For which kinds of its section it is there, such as ``lora``; none: for all.
        schema: What JSON Schema says of its values, references resolved.
    """

    name: str
    of: tuple[str, ...]
    schema: Schema

    @property
    def meaning(self) -> str:
        return self.schema.get("description", "")

    @property
    def unit(self) -> str:
        """In what it is counted or measured; empty where it is no quantity."""
        return self.schema.get("unit", "")

    @property
    def has_default(self) -> bool:
        return "default" in self.schema

    @property
    def values(self) -> str:
        """Which values it takes, in words."""
        return " or ".join(_in_words(each) for each in _alternatives(self.schema))

    @property
    def words(self) -> list[str]:
        """The values that are words, where it takes no others; empty for numbers and texts."""
        words: list[str] = []
        for each in _alternatives(self.schema):
            words += ["true", "false"] if each.get("type") == "boolean" else each.get("enum", [])
        return words

    @property
    def maps_names(self) -> bool:
        """Say whether it is a mapping from names to single values, such as ranks by layer."""
        entries = self.schema.get("additionalProperties")
        return isinstance(entries, dict) and entries.get("type") != "object"

    @property
    def takes_only_texts(self) -> bool:
        """Say whether each of its values is a text, null, or a list of texts: 300 is one then."""
        items = [
            each.get("items", {}) if each.get("type") == "array" else each
            for each in _alternatives(self.schema)
        ]
        return all(each.get("type") in ("string", "null") for each in items)

    def takes(self, kind: str) -> bool:
        """Say whether one of its values is of this type of JSON Schema, such as ``array``."""
        return any(each.get("type") == kind for each in _alternatives(self.schema))


def all_settings() -> tuple[Setting, ...]:
    """Return every setting of a recipe, in the order in which they are defined."""
    return _settings_after(Kinds.additions)


@lru_cache(maxsize=1)
def _settings_after(_: int) -> tuple[Setting, ...]:
    """Return the settings as they are after so many additions by plugins."""
    schema = Recipe.model_json_schema()
    definitions = schema.pop("$defs")
    found: dict[tuple[str, str], Setting] = {}
    for each in _walk(_resolved(schema, definitions), name="", of=()):
        # The same setting of several kinds is shown once, with all of them.
        key = (each.name, repr(each.schema))
        before = found.get(key)
        found[key] = (
            each if before is None else Setting(each.name, before.of + each.of, each.schema)
        )
    return tuple(found.values())


def settings_named(name: str) -> list[Setting]:
    """Return the settings that bear a dotted name: none, one, or one for several kinds."""
    return [each for each in all_settings() if each.name == name]


def _walk(section: Schema, *, name: str, of: tuple[str, ...]) -> Iterator[Setting]:
    for key, schema in section["properties"].items():
        place = f"{name}.{key}" if name else key
        sections = [each for each in _alternatives(schema) if "properties" in each]
        if not sections:
            # What tells the kinds of a section apart is shown once, above all of them.
            if "const" not in schema and not (of and key == "name"):
                yield Setting(place, of, schema)
            continue
        tag = schema.get("discriminator", {}).get("propertyName")
        if tag is not None:
            kinds = list(schema["discriminator"]["mapping"])
            yield Setting(f"{place}.{tag}", of, {"enum": kinds, "description": f"which {key}"})
        for each in sections:
            yield from _walk(each, name=place, of=(_label(each),) if tag else of)


def _label(section: Schema) -> str:
    """Name one of the kinds of a section: by its tag, or where it has several by its class."""
    constants = (section["properties"].get(tag, {}).get("const") for tag in ("kind", "name"))
    return next(filter(None, constants), section["title"].removesuffix("Settings").lower())


def _alternatives(schema: Schema) -> list[Schema]:
    return schema.get("anyOf") or schema.get("oneOf") or [schema]


def _resolved(node: Any, definitions: Schema) -> Any:
    """Return ``node`` with every reference replaced by what it refers to."""
    if isinstance(node, list):
        return [_resolved(each, definitions) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _resolved(target, definitions) | beside
    return {
        # The mapping of a discriminator holds references that are names, not schemas.
        key: value if key == "discriminator" else _resolved(value, definitions)
        for key, value in node.items()
    }


def _in_words(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    match schema.get("type"):
        case "null":
            return "null"
        case "boolean":
            return "true, false"
        case "integer":
            return f"whole number{_bounds(schema)}"
        case "number":
            return f"number{_bounds(schema)}"
        case "array":
            items = schema.get("items", {})
            return "list of methods" if "properties" in items else f"list of {_in_words(items)}"
        case "object":
            return "mapping"
        case _:
            return "path" if schema.get("format") == "path" else "text"


def _bounds(schema: Schema) -> str:
    signs = {
        "minimum": "≥",
        "exclusiveMinimum": ">",
        "maximum": "≤",
        "exclusiveMaximum": "<",
    }
    bounds = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return f" {' and '.join(bounds)}" if bounds else ""
