"""Sections of settings that are of one of several classes, and words of one of several names.

Both are open: a plugin adds a class or a name, and validation, messages, the schema for editors and
the lists of settings know it (``training/plugins.py``).
"""

from __future__ import annotations

import functools
import operator
import typing
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from rankwise.core.errors import nearest_names
from rankwise.training.settings.base import Settings


class Kinds:
    """The classes of a section, told apart by the value of one of their settings.

    It stands beside their union in an annotation: ``Annotated[A | B, Kinds("kind", A, B)]``. The
    union is what type checkers read, and this is what validates.
    """

    additions = 0  # to any of them so far

    def __init__(self, tag: str, *classes: type[Settings]) -> None:
        self.tag = tag
        self._classes = list(classes)

    @property
    def classes(self) -> tuple[type[Settings], ...]:
        """The classes in the order in which they were added."""
        return tuple(self._classes)

    def add(self, kind: type[Settings]) -> None:
        """Let the section also be of this class.

        Raises:
            ValueError: Its tag is no ``Literal``, or another class has one of its values.
        """
        names = _values_of(kind, self.tag)
        if not names:
            raise ValueError(f"{kind.__name__}.{self.tag} must be a Literal of its names")
        known = {name for each in self._classes for name in _values_of(each, self.tag)}
        if taken := known & names:
            raise ValueError(f"{self.tag} {sorted(taken)} of {kind.__name__} is taken already")
        self._classes.append(kind)
        Kinds.additions += 1
        vars(self).pop("_adapter", None)

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        union = functools.reduce(operator.or_, self._classes)
        annotated: Any = Annotated  # of classes that are known when it runs
        return TypeAdapter(annotated[union, Field(discriminator=self.tag)])

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            # Found anew at each call: a class may have been added since.
            lambda value: self._adapter.validate_python(value)
        )

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(self._adapter.core_schema)


class Names:
    """The values of a setting that is a word: the keys of a table that may grow."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known = known

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "enum": list(self._known)}

    def _validate(self, value: Any) -> str:
        if value in self._known:
            return value
        nearest = nearest_names(str(value), self._known)
        told = {"value": repr(value), "nearest": nearest}
        raise PydanticCustomError("value_error", "no {value}; {nearest}", told)


def _values_of(kind: type[Settings], tag: str) -> set[str]:
    field = kind.model_fields.get(tag)
    return set() if field is None else set(typing.get_args(field.annotation))
