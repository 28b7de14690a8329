"""Interrupted runs: `--resume` continues one of the same settings, none that is only like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from rankwise.core.errors import SettingsError
from rankwise.core.records import Record
from rankwise.training.folder import RunFolder, runs_below
from rankwise.training.settings.run import RunSettings

Tree = dict[str, Any]


class KeptSettings(Record):
    """The settings of a run, as they were when it began."""

    settings: dict[str, JsonValue]


def keep_settings(settings: RunSettings, folder: RunFolder) -> None:
    """Keep the settings of a run from its beginning: its record comes only at its end."""
    KeptSettings(settings=settings.model_dump(mode="json")).write(folder.settings)


def refuse_other_run(settings: RunSettings, output: Path) -> None:
    """Refuse to begin anew where a run with other settings was interrupted.

    A run that differs in its seed alone is another one of the same series, and is left alone.

    Raises:
        SettingsError: There is such a run; every setting that differs is named.
    """
    own = _flat(settings.model_dump(mode="json"))
    found: list[tuple[str, list[str]]] = []
    for file in sorted(runs_below(output).glob("*/settings.json")):
        if (file.parent / "record.json").exists():
            continue
        other = _flat(_settings_in(file))
        differing = [key for key in own | other if own.get(key) != other.get(key)]
        if set(differing) - {"seed"}:
            told = [
                f"{key} is {other.get(key)!r} there and {own.get(key)!r} here" for key in differing
            ]
            found.append((file.parent.name, told))
    if found:
        name, told = min(found, key=lambda each: len(each[1]))
        raise SettingsError(
            f"there is no run of these settings to resume in {output}; the interrupted {name} has "
            f"others: {'; '.join(told)}. Give the same settings to go on with it, or leave out "
            "--resume to begin a new run"
        )


def _settings_in(file: Path) -> Tree:
    """Return the settings in ``file``, with the defaults of those that came after it."""
    settings = KeptSettings.read(file).settings
    try:
        return RunSettings.model_validate(settings).model_dump(mode="json")
    except ValidationError:  # of a version that had others: they are told one by one
        return settings


def _flat(tree: Tree, prefix: str = "") -> Tree:
    flat: Tree = {}
    for key, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat
