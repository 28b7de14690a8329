"""A JSON Schema of recipes, by which editors complete and check YAML while it is written.

A recipe says less than the settings that it becomes: a method may be a mere name, and whatever is
left out is filled. So nothing is required, and a method may be a word.
"""

from __future__ import annotations

from typing import Any

from rankwise.methods.table import METHODS
from rankwise.training.settings.recipe import Recipe

Schema = dict[str, Any]
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> Schema:
    """Return the schema of a recipe file."""
    schema = Recipe.model_json_schema()
    definitions = {name: _lenient(each) for name, each in schema.pop("$defs").items()}
    method = {"enum": list(METHODS), "description": "a method of `rankwise list methods`"}
    for name in ("MethodSettings", "ComparedMethod"):
        definitions[name]["properties"]["name"] |= method
        definitions[f"{name}OrName"] = {"anyOf": [method, {"$ref": f"#/$defs/{name}"}]}
    entries = definitions["ComparisonSettings"]["properties"]["methods"]
    entries["items"] = {"$ref": "#/$defs/ComparedMethodOrName"}
    layer = _lenient(schema)
    layer["properties"]["method"] = {"$ref": "#/$defs/MethodSettingsOrName"}
    definitions["Layer"] = layer
    layers = {"type": "object", "additionalProperties": {"$ref": "#/$defs/Layer"}}
    return layer | {
        "$schema": _DIALECT,
        "title": "A recipe of Rankwise",
        "properties": layer["properties"]
        | {
            "published_run": {"$ref": "#/$defs/Layer"}
            | {"description": "what a run must have for published scores to be shown beside it"},
            "tasks": layers | {"description": "settings for single tasks, by their names"},
            "models": layers | {"description": "settings for single models, by their names"},
            "variants": layers | {"description": "settings for --quick, --full and --controls"},
        },
        "$defs": definitions,
    }


def _lenient(node: Any) -> Any:
    """Return a schema in which nothing is required and the kind of a section may be left out."""
    if isinstance(node, list):
        return [_lenient(each) for each in node]
    if not isinstance(node, dict):
        return node
    left = {key: each for key, each in node.items() if key not in ("required", "discriminator")}
    return {"anyOf" if key == "oneOf" else key: _lenient(each) for key, each in left.items()}
