"""The settings of a comparison: methods × the grid of each × seeds on one task."""

from __future__ import annotations

from typing import Any

from pydantic import PositiveFloat, PositiveInt, model_validator

from rankwise.core.errors import nearest_names
from rankwise.training.settings.base import Settings, setting
from rankwise.training.settings.grid import METHOD_PARTS, RATE, Grid, GridPoint, points_of
from rankwise.training.settings.layers import insert
from rankwise.training.settings.method import MethodSettings
from rankwise.training.settings.run import RunSettings, TrainingSettings


class ComparedMethod(MethodSettings):
    """A method of a comparison, and what its runs have otherwise than the others'."""

    task: dict[str, Any] = setting({}, "its own settings of the task, such as {rows: 500}")
    training: dict[str, Any] = setting({}, "its own settings of training, such as {epochs: 3}")
    sweep: Grid = setting({}, "its own values in the sweep, such as {adapter.alpha: [8, 16]}")

    def run(self, common: RunSettings, *, at: GridPoint, seed: int) -> RunSettings:
        """Return a run: ``common`` with what this method has of its own, at a point of its grid."""
        tree = common.model_dump()
        own = {"task": {**self.task}, "training": self.training | {RATE: at.learning_rate}}
        method = self.model_dump(exclude={"task", "training", "sweep"})
        for name, value in at.others:
            insert(own if name.startswith("training.") else method, name, value)
        return RunSettings.model_validate(
            {name: tree[name] | part for name, part in own.items()}
            | {"method": method, "seed": seed, "plugins": common.plugins}
        )

    def takes(self, name: str) -> bool:
        """Say whether the method has a setting of this name that a sweep can try."""
        section, _, rest = name.partition(".")
        field = rest.partition(".")[0]
        if section == "training":
            return field in TrainingSettings.model_fields and field != RATE
        if section not in METHOD_PARTS:
            return name == RATE
        return field in type(getattr(self, section)).model_fields and field != "kind"


class ComparisonSettings(Settings):
    """Methods × the grid of each × seeds on one task."""

    methods: tuple[ComparedMethod, ...] = setting(
        ..., "what is compared: names, or names with settings of method", min_length=1
    )
    learning_rates: tuple[PositiveFloat, ...] = setting(
        (), "tried for every method for which sweep names none", unit="per step"
    )
    sweep: Grid = setting(
        {},
        "values of settings, tried for every method that has them, such as {adapter.alpha: [8, "
        "16]}; the best on validation are chosen",
    )
    seeds: tuple[int, ...] = setting(
        (0, 1, 2),
        "their numbers, each a run of every method as it was chosen; how many: --seeds",
        unit="number",
        min_length=1,
    )
    budgets: list[str] | None = setting(
        None, "only methods of these budgets are run; null: all methods"
    )
    sweep_seeds: PositiveInt | None = setting(
        3,
        "of the seeds at most so many sweep the grid, and race: what can no longer win is dropped; "
        "null: all",
        unit="seeds",
    )
    retention: bool | None = setting(
        None,
        "measure what the chosen runs have lost of what the base knew; null: where that takes no "
        "time to speak of",
    )
    baseline: str = setting("lora", "the method that the others are measured against")
    widenings: int = setting(
        4, "times that the grid of rates may grow while its edge is best", unit="times", ge=0
    )

    @property
    def chosen_methods(self) -> tuple[ComparedMethod, ...]:
        """The methods of the chosen budgets."""
        if self.budgets is None:
            return self.methods
        return tuple(method for method in self.methods if method.budget in self.budgets)

    def grid_of(self, method: ComparedMethod) -> dict[str, tuple[Any, ...]]:
        """Return the values that are tried of each setting of ``method``; its own come first."""
        shared = {name: values for name, values in self.sweep.items() if method.takes(name)}
        rates = {RATE: self.learning_rates} if self.learning_rates else {}
        return rates | shared | method.sweep

    @model_validator(mode="after")
    def _check_budgets(self) -> ComparisonSettings:
        known = {method.budget for method in self.methods}
        for budget in self.budgets or []:
            if budget not in known:
                raise ValueError(f"budgets: no {budget!r}; {nearest_names(budget, known)}")
        return self

    @model_validator(mode="after")
    def _check_sweep(self) -> ComparisonSettings:
        for name, values in self.sweep.items():
            _check_values(f"sweep.{name}", values)
            if not any(method.takes(name) for method in self.methods):
                raise ValueError(f"sweep.{name}: no method of this comparison has this setting")
        for position, method in enumerate(self.methods):
            place = f"methods[{position}].sweep"
            for name, values in method.sweep.items():
                _check_values(f"{place}.{name}", values)
                if not method.takes(name):
                    raise ValueError(
                        f"{place}.{name}: {method.title} has no such setting; name {RATE}, or one "
                        f"of its own such as adapter.alpha or training.weight_decay"
                    )
            if RATE not in self.grid_of(method):
                raise ValueError(
                    f"learning_rates: {method.title} has none: name them here, or in its sweep as "
                    f"{RATE}"
                )
        return self

    @property
    def swept_seeds(self) -> tuple[int, ...]:
        """The seeds with which the grids are swept."""
        return self.seeds[: self.sweep_seeds]

    def points_of(self, method: ComparedMethod) -> list[GridPoint]:
        """Return every combination of values that is tried of ``method``."""
        return points_of(self.grid_of(method))


def _check_values(place: str, values: tuple[Any, ...]) -> None:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{place} takes different values, at least one, got {list(values)}")
    if place.endswith(f".{RATE}") and not all(
        isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        for value in values
    ):
        raise ValueError(f"{place} takes numbers above 0, got {list(values)}")
