"""What all settings have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

Fraction = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """Base of all settings: frozen, and strict about keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def setting(
    default: Any,
    meaning: str,
    *,
    unit: str = "",
    is_later: bool = False,
    before: Any = None,
    **constraints: Any,
) -> Any:
    """Declare a setting: its default, what it means, and in what it is counted or measured.

    Lists, ``rankwise help``, the reference and the schema for editors are made from these.

    Args:
        default: Its value where nobody says otherwise; ``...`` if somebody must.
        meaning: One phrase, shown beside the name.
        unit: Such as ``epochs``; of a number without one ``ratio`` or ``number``.
        is_later: It came after runs without it had their names: at its default it is no part of
            them (:func:`later_defaults`).
        before: What runs did before it came, where that is not its default: it is no part of their
            names there, and only there.
        constraints: Those of :func:`pydantic.Field`.
    """
    extra: JsonDict = {"unit": unit} if unit else {}
    if is_later or before is not None:
        extra["later"] = {"before": default if before is None else before}
    return Field(default=default, description=meaning, json_schema_extra=extra, **constraints)


def later_defaults(settings: BaseModel) -> dict[str, Any]:
    """Return which settings came later and change nothing, as Pydantic's ``exclude``.

    They stand at their defaults, or at what was done before they came where that is another. So a
    name that is made of the others is that of before.
    """
    left_out: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        extra = field.json_schema_extra
        later = extra.get("later") if isinstance(extra, dict) else None
        if isinstance(later, dict) and value == later["before"]:
            left_out[name] = True
        elif isinstance(value, BaseModel) and (inside := later_defaults(value)):
            left_out[name] = inside
    return left_out
