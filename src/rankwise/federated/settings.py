"""What of a run's settings a federation can follow; the rest is refused, not ignored."""

from __future__ import annotations

from typing import Any

from rankwise.core.errors import SettingsError
from rankwise.training.settings.base import Settings
from rankwise.training.settings.run import RunSettings, TrainingSettings
from rankwise.training.settings.schedules import ChainSchedule

_NOT_FOLLOWED = (
    "scheduler",
    "warmup_ratio",
    "keep",
    "patience",
    "accumulation_steps",
    "bf16",
    "gradient_checkpointing",
    "report_to",
)
_NOT_FOLLOWED_BY_A_CHAIN = (
    "reset_optimizer",
    "moments",
    "warmup_steps",
    "final_rank",
    "every_steps",
    "fractions",
    "captured_below",
    "look_every",
    "least_steps",
    "most_steps",
)


def check_followed(run: RunSettings) -> None:
    """Refuse settings of a run that would change nothing in a federation.

    Raises:
        SettingsError: Some are not at their defaults.
    """
    schedule = run.method.schedule
    lines = _changed("training", run.training, TrainingSettings(), _NOT_FOLLOWED)
    if isinstance(schedule, ChainSchedule):
        place = "method.schedule"
        lines += _changed(place, schedule, ChainSchedule(), _NOT_FOLLOWED_BY_A_CHAIN)
    if lines:
        raise SettingsError(
            f"method {run.method.title!r}: each client begins a round with a fresh AdamW at a "
            "constant rate, and the last round is kept, so this means nothing in a federation:\n"
            + "\n".join(lines)
        )


def check_given(overrides: dict[str, Any]) -> None:
    """Refuse settings of other commands that were given for a federation.

    A recipe may hold them, for those commands; on the command line they are a mistake.

    Args:
        overrides: The tree of settings from the command line.

    Raises:
        SettingsError: Some are there.
    """
    compare, training, method = (
        _tree(overrides, name) for name in ("compare", "training", "method")
    )
    given = [f"compare.{name}" for name in compare if name not in ("methods", "budgets")]
    given += [f"training.{name}" for name in training if name in ("epochs", "loop")]
    given += [
        f"method.schedule.{name}" for name in _tree(method, "schedule") if name == "every_epochs"
    ]
    if given:
        raise SettingsError(
            f"{', '.join(given)}: means nothing in a federation, which is counted in "
            "--federated.rounds of --federated.local_epochs or --federated.local_steps, with one "
            "seed and one rate a method: leave it out"
        )


def _changed(
    place: str, settings: Settings, defaults: Settings, names: tuple[str, ...]
) -> list[str]:
    return [
        f"{place}.{name} {value!r}: set it to {default!r}"
        for name in names
        if (value := getattr(settings, name)) != (default := getattr(defaults, name))
    ]


def _tree(tree: dict[str, Any], name: str) -> dict[str, Any]:
    # What is no mapping is told as what it is when the settings are validated.
    found = tree.get(name)
    return found if isinstance(found, dict) else {}
