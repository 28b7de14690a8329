"""What a plugin adds with: adapters, inits, tasks, methods and metrics of a user's own.

How a plugin comes to be imported says ``core/plugins.py``. A sketch is added by
``functional.sketches.add_sketch``, a chart by appending to ``comparison.report.charts.CHARTS``.
Recipes, options, messages, help and comparisons know what is added as they know what is shipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rankwise.core.errors import SettingsError
from rankwise.methods.table import METHODS, Method
from rankwise.tasks.table import TASKS, TaskFacts
from rankwise.training.settings.adapters import ADAPTER_KINDS
from rankwise.training.settings.base import Settings
from rankwise.training.settings.method import INIT_KINDS
from rankwise.training.settings.task import TASK_KINDS

if TYPE_CHECKING:
    from peft import PeftConfig

    from rankwise.evaluation.metrics import Metric
    from rankwise.tasks.table import Task
    from rankwise.training.adapter import Placement
    from rankwise.training.folder import RunFolder
    from rankwise.training.job import Job
    from rankwise.training.records import InitializationRecord


def add_adapter(kind: type[Settings], configure: Callable[[Any, Placement], PeftConfig]) -> None:
    """Add an adapter.

    Args:
        kind: Its settings, with ``kind: Literal["NAME"]``; those of
            ``training.settings.method.FactoredSettings`` beside its own.
        configure: Makes PEFT's config of the settings, the rank and the layers.
    """
    from rankwise.training.adapter import CONFIGS

    ADAPTER_KINDS.add(kind)
    CONFIGS[kind] = configure


def add_init(
    kind: type[Settings],
    initialize: Callable[[Any, Job, RunFolder], InitializationRecord | None],
) -> None:
    """Add an init.

    Args:
        kind: Its settings, with ``kind: Literal["NAME"]``.
        initialize: Moves ``job.model`` to its start and returns what is to be recorded of it;
            ``training.initialization.run_initialization`` runs what ``rankwise.initialize`` takes.
    """
    from rankwise.training.initialization import INITIALIZATIONS

    INIT_KINDS.add(kind)
    INITIALIZATIONS[kind] = initialize


def add_task(
    kind: type[Settings], build: Callable[[Any, int], Task], facts: dict[str, TaskFacts]
) -> None:
    """Add a task, or a family of tasks.

    Args:
        kind: Its settings, with ``name: Literal["NAME", ...]``.
        build: Makes the task of the settings and the seed of the run.
        facts: Version and metrics of each name.
    """
    from rankwise.training.build import BUILDERS

    TASK_KINDS.add(kind)
    BUILDERS[kind] = build
    TASKS.update(facts)


def add_method(name: str, method: Method) -> None:
    """Add a named method: a choice of adapter, init and schedule."""
    if name in METHODS:
        raise SettingsError(f"there is a method {name!r} already: name yours otherwise")
    METHODS[name] = method


def add_metric(name: str, metric: Metric) -> None:
    """Add a metric, which tasks may then name."""
    from rankwise.evaluation.metrics import METRICS

    if name in METRICS:
        raise SettingsError(f"there is a metric {name!r} already: name yours otherwise")
    METRICS[name] = metric
