"""Recipes: a shipped name or a YAML file, with dotted overrides, read strictly into settings."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from rankwise.core.errors import SettingsError, nearest_names
from rankwise.core.plugins import check_plugins, load_plugins, loaded_plugins, modules_of_metrics
from rankwise.core.yaml_text import LONGEST, read_yaml
from rankwise.tasks.own.source import is_data
from rankwise.training.settings.base import Settings, setting
from rankwise.training.settings.comparison import ComparisonSettings
from rankwise.training.settings.data_recipe import data_recipe, with_absolute_files
from rankwise.training.settings.explain import explain
from rankwise.training.settings.federated import FederatedSettings
from rankwise.training.settings.grid import GridPoint
from rankwise.training.settings.layers import Tree, laid_over
from rankwise.training.settings.method import MethodSettings
from rankwise.training.settings.named_methods import (
    begin_method,
    change_method,
    fill_method,
    select_entries,
)
from rankwise.training.settings.published import with_fitting_scores
from rankwise.training.settings.raclora import RacLoraSettings, settings_of_raclora
from rankwise.training.settings.run import PLUGINS, RunSettings, TrainingSettings
from rankwise.training.settings.task import DigitsSettings, TaskSettings


class Recipe(Settings):
    """What a YAML file holds: one run, its comparison and its federation."""

    task: TaskSettings = DigitsSettings()
    method: MethodSettings
    training: TrainingSettings = TrainingSettings()
    seed: int = setting(0, "decides all randomness of a run", unit="number", ge=0)
    compare: ComparisonSettings | None = None
    federated: FederatedSettings = FederatedSettings()
    plugins: list[str] = setting([], PLUGINS)
    raclora: RacLoraSettings | None = None

    @model_validator(mode="after")
    def _check_own_settings(self) -> Recipe:
        """Refuse a recipe of which a run could not be made, before any is."""
        common = self.run()
        if self.compare is None:
            return self
        for position, method in enumerate(self.compare.methods):
            points = [GridPoint(self.training.learning_rate), *self.compare.points_of(method)]
            try:
                for point in points:
                    method.run(common, at=point, seed=self.seed)
            except ValidationError as error:
                place = f"compare.methods[{position}]"
                raise ValueError(explain(error, RunSettings, place=place)) from None
        return self

    def run(self) -> RunSettings:
        """Return the single run that the recipe describes."""
        return RunSettings(
            task=self.task,
            method=self.method,
            training=self.training,
            seed=self.seed,
            plugins=self.plugins,
        )


def recipe_names() -> list[str]:
    """Return the names of the recipes that ship with Rankwise."""
    folder = resources.files("rankwise") / "recipes"
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )


def recipe_summary(name: str) -> str:
    """Return the comment on the first line of a shipped recipe."""
    text = (resources.files("rankwise") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    return text.splitlines()[0].removeprefix("#").strip()


def load_recipe(name: str, overrides: Tree | None = None, *, variant: str | None = None) -> Recipe:
    """Load the recipe ``name`` (shipped, or the path of a YAML file) with ``overrides`` on top.

    In its place ``name`` may be data of the user's own: a file, a folder or ``hub:OWNER/NAME``.

    Between the two lie, in this order, the recipe's settings for the task (a key of its ``tasks``),
    for the model (a key of its ``models``) and its variant (a key of its ``variants``, such as
    ``quick``). A method of the comparison that bears the name of the recipe's ``method`` begins
    with that one's settings; a layer that only names methods of the comparison means the recipe's
    entries for them. The section ``raclora`` is RAC-LoRA's own configuration, which becomes
    settings of the others below the overrides.

    A score of a paper stays only where the run is still the one that the recipe gives it for: the
    recipe's own for that task, with its section ``published_run`` on top.

    Raises:
        SettingsError: No such recipe, YAML that cannot be read, an unknown key or a wrong value.
        DataError: Data cannot be read, or leave in doubt what they are for.
    """
    own_data = is_own_data(name)
    overrides = with_absolute_files(overrides or {}) if own_data else overrides or {}
    tree = data_recipe(name, overrides) if own_data else _read_yaml(name)
    raclora = tree.pop("raclora", {}) | overrides.get("raclora", {})
    overrides = {key: value for key, value in overrides.items() if key != "raclora"}
    _import_plugins(overrides.get("plugins", tree.get("plugins", [])))
    for layer in (tree, overrides):
        load_plugins(_modules_of_metrics(layer))
    overrides = {**overrides, "plugins": loaded_plugins()}
    published_run = _named_trees(tree, "published_run", name)
    for_tasks, variants, for_models = (
        _named_trees(tree, key, name) for key in ("tasks", "variants", "models")
    )
    if variant is not None and variant not in variants:
        known = ", ".join(sorted(variants)) or "none"
        raise SettingsError(f"recipe {name} has no variant {variant!r}; it has {known}")
    task = laid_over(tree, overrides).get("task")
    task_name = str(task.get("name")) if isinstance(task, dict) else ""
    tree["method"] = begin_method(tree.get("method", {}))
    own = _with_layer(tree, for_tasks.get(task_name, {}))
    model = str(task.get("model")) if isinstance(task, dict) else ""
    layers = [
        for_models.get(model, {}),
        variants.get(variant or "", {}),
        _of_raclora(raclora, task_name),
        overrides,
    ]
    recipe = _composed(own, layers)
    if not _has_scores(recipe):
        return recipe
    return with_fitting_scores(recipe, _published(own, task_name, published_run))


def _composed(tree: Tree, layers: list[Tree]) -> Recipe:
    for above in layers:
        tree = _with_layer(tree, above)
    return _validated(_with_filled_methods(tree))


def _published(own: Tree, task_name: str, published_run: Tree) -> Recipe:
    """Return the recipe for a task as its scores of papers are meant."""
    named = {"task": {"name": task_name}} if task_name else {}
    return _composed(own, [named, published_run])


def _has_scores(recipe: Recipe) -> bool:
    methods = (recipe.method, *(recipe.compare.methods if recipe.compare else ()))
    return any(method.published or method.published_parameters for method in methods)


def _of_raclora(config: Tree, task_name: str) -> Tree:
    """Return settings that do what RAC-LoRA's own configuration asks for."""
    if not config:
        return {}
    if task_name != "mnist":
        raise SettingsError(
            f"raclora: this is the configuration of RAC-LoRA's experiment on MNIST, got task "
            f"{task_name or 'digits'}: use it with the recipe rac-mnist"
        )
    try:
        RacLoraSettings.model_validate(config)
    except ValidationError as error:
        raise SettingsError(explain(error, RacLoraSettings, place="raclora")) from None
    try:
        return settings_of_raclora(config)
    except SettingsError as error:
        raise SettingsError(f"raclora: {error}") from None


def is_own_data(name: str) -> bool:
    """Say whether ``name`` is no recipe but data; a recipe that ships goes before a folder."""
    return name not in recipe_names() and is_data(name)


def settings_of_run(tree: Tree) -> RunSettings:
    """Return the settings of one run; a method that is only named is filled from the table.

    Raises:
        SettingsError: An unknown key or a wrong value.
    """
    check_plugins(tree.get("plugins", []), what="the run")
    return _validated(tree | {"method": fill_method(tree["method"], place="method")}).run()


def _with_layer(tree: Tree, above: Tree) -> Tree:
    """Lay one layer over a recipe whose methods are not filled yet."""
    entries = _entries_of(tree)
    method = tree["method"]
    if "method" in above:
        method, of_the_entry = change_method(method, above["method"], entries=entries)
        tree = laid_over(tree, of_the_entry)
    tree = laid_over(tree, above) | {"method": method}
    comparison = tree.get("compare")
    if isinstance(comparison, dict) and "methods" in comparison:
        methods = select_entries(comparison["methods"], entries)
        tree["compare"] = {**comparison, "methods": methods}
    return tree


def _entries_of(tree: Tree) -> list[Any]:
    comparison = tree.get("compare")
    methods = comparison.get("methods") if isinstance(comparison, dict) else None
    return methods if isinstance(methods, list) else []


def _with_filled_methods(tree: Tree) -> Tree:
    own = tree["method"]
    filled = tree | {"method": fill_method(own, place="method")}
    if entries := _entries_of(tree):
        methods = [
            fill_method(entry, place=f"compare.methods[{position}]", own=own)
            for position, entry in enumerate(entries)
        ]
        filled["compare"] = {**tree["compare"], "methods": methods}
    return filled


def _import_plugins(names: Any) -> None:
    """Import what a recipe or an option names, before its words are needed."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SettingsError(f"plugins must be a list of modules, got {names!r}")
    load_plugins(names)


def _modules_of_metrics(layer: Tree) -> Iterator[str]:
    """Yield the modules of the user's own metrics, of the recipe's task and of each method's."""
    for part in (layer, *_entries_of(layer)):
        task = part.get("task") if isinstance(part, dict) else None
        if isinstance(task, dict):
            yield from modules_of_metrics(task.get("metrics"))


def _validated(tree: Tree) -> Recipe:
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(explain(error, Recipe)) from None


def _read_yaml(name: str) -> Tree:
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise SettingsError(f"no recipe file {name}: check the path")
        text = _text_of(path)
    elif name in recipe_names():
        text = (resources.files("rankwise") / "recipes" / f"{name}.yaml").read_text(
            encoding="utf-8"
        )
    else:
        raise SettingsError(
            f"no recipe {name!r} (a file must end in .yaml); {nearest_names(name, recipe_names())}"
        )
    try:
        tree = read_yaml(text)
    except ValueError as error:
        raise SettingsError(f"recipe {name} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"recipe {name} must hold a mapping, got {type(tree).__name__}")
    return tree


def _text_of(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            # One character more is too long a text, however long the file is.
            return file.read(LONGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"recipe {path} cannot be read: {error}") from None


def _named_trees(tree: Tree, key: str, recipe: str) -> dict[str, Tree]:
    """Take the section ``key``, which maps names to settings, out of a recipe."""
    section = tree.pop(key, {})
    if not isinstance(section, dict) or not all(
        isinstance(each, dict) for each in section.values()
    ):
        raise SettingsError(f"{key} of recipe {recipe} must map names to settings, got {section!r}")
    return {str(name): each for name, each in section.items()}
