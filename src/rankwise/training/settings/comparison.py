"""The settings of a comparison: methods × learning rates × seeds on one task."""

from __future__ import annotations

from typing import Any

from pydantic import PositiveFloat, PositiveInt, model_validator

from rankwise.core.errors import nearest_names
from rankwise.training.settings.base import Settings, setting
from rankwise.training.settings.method import MethodSettings
from rankwise.training.settings.run import RunSettings


class ComparedMethod(MethodSettings):
    """A method of a comparison, and what its runs have otherwise than the others'."""

    task: dict[str, Any] = setting({}, "its own settings of the task, such as {rows: 500}")
    training: dict[str, Any] = setting({}, "its own settings of training, such as {epochs: 3}")

    def run(self, common: RunSettings, *, learning_rate: float, seed: int) -> RunSettings:
        """Return one run: ``common`` with this method, its own settings, a rate and a seed."""
        own = {"task": self.task, "training": self.training | {"learning_rate": learning_rate}}
        tree = common.model_dump()
        method = self.model_dump(exclude={"task", "training"})
        return RunSettings.model_validate(
            {name: tree[name] | part for name, part in own.items()}
            | {"method": method, "seed": seed, "plugins": common.plugins}
        )


class ComparisonSettings(Settings):
    """Methods × learning rates × seeds on one task."""

    methods: tuple[ComparedMethod, ...] = setting(
        ..., "what is compared: names, or names with settings of method", min_length=1
    )
    learning_rates: tuple[PositiveFloat, ...] = setting(
        ...,
        "tried for every method; the best on validation is chosen",
        unit="per step",
        min_length=1,
    )
    seeds: tuple[int, ...] = setting(
        (0, 1, 2), "each is a run of every method at its rate", unit="number", min_length=1
    )
    budgets: list[str] | None = setting(
        None, "only methods of these budgets are run; null: all methods"
    )
    sweep_seeds: PositiveInt | None = setting(
        None,
        "of the seeds so many are run at every rate, the others at the best alone; null: all",
        unit="seeds",
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

    @model_validator(mode="after")
    def _check_budgets(self) -> ComparisonSettings:
        known = {method.budget for method in self.methods}
        for budget in self.budgets or []:
            if budget not in known:
                raise ValueError(f"budgets: no {budget!r}; {nearest_names(budget, known)}")
        return self

    @model_validator(mode="after")
    def _check_sweep_seeds(self) -> ComparisonSettings:
        if self.sweep_seeds is not None and self.sweep_seeds > len(self.seeds):
            raise ValueError(
                f"sweep_seeds must be at most the number of seeds, {len(self.seeds)}, "
                f"got {self.sweep_seeds}"
            )
        return self
