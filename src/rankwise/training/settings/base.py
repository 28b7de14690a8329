"""What all settings have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict


class Settings(BaseModel):
    """Base of all settings: frozen, and strict about keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def setting(default: Any, meaning: str, *, unit: str = "", **constraints: Any) -> Any:
    """Declare a setting: its default, what it means, and in what it is counted or measured.

    Lists, ``rankwise help``, the reference and the schema for editors are made from these.

    Args:
        default: Its value where nobody says otherwise; ``...`` if somebody must.
        meaning: One phrase, shown beside the name.
        unit: Such as ``epochs``; of a number without one ``ratio`` or ``number``.
        constraints: Those of :func:`pydantic.Field`.
    """
    extra: JsonDict = {"unit": unit} if unit else {}
    return Field(default=default, description=meaning, json_schema_extra=extra, **constraints)
