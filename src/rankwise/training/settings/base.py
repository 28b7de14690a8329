"""What all settings have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict


class Settings(BaseModel):
    """Base of all settings: frozen, and strict about keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def setting(
    default: Any, meaning: str, *, unit: str = "", is_later: bool = False, **constraints: Any
) -> Any:
    """Declare a setting: its default, what it means, and in what it is counted or measured.

    Lists, ``rankwise help``, the reference and the schema for editors are made from these.

    Args:
        default: Its value where nobody says otherwise; ``...`` if somebody must.
        meaning: One phrase, shown beside the name.
        unit: Such as ``epochs``; of a number without one ``ratio`` or ``number``.
        is_later: It came after runs without it had their names: at its default it is no part of
            them (:func:`later_defaults`).
        constraints: Those of :func:`pydantic.Field`.
    """
    extra: JsonDict = {"unit": unit} if unit else {}
    if is_later:
        extra["later"] = True
    return Field(default=default, description=meaning, json_schema_extra=extra, **constraints)


def later_defaults(settings: BaseModel) -> dict[str, Any]:
    """Return which settings came later and stand at their defaults, as Pydantic's ``exclude``.

    So a name that is made of the others is that of before.
    """
    left_out: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("later") and value == field.get_default():
            left_out[name] = True
        elif isinstance(value, BaseModel) and (inside := later_defaults(value)):
            left_out[name] = inside
    return left_out
