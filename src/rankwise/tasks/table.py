"""The tasks by name, and what is known of each before its files, which need torch, are imported.

A new task is one folder and one line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from rankwise.tasks.generation import definitions as generation
from rankwise.tasks.glue.definitions import DEFINITIONS as GLUE
from rankwise.tasks.own import definitions as own
from rankwise.tasks.vtab import definitions as vtab

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from rankwise.tasks.answers import Answers
    from rankwise.tasks.splits import Batch, Rehearsal, Splits

Dtype = Literal["float32", "bfloat16", "float16"]  # of the weights of a pretrained model


class Task(Protocol):
    """What the floors above ask of a task."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of its metrics (``evaluation/metrics.py``); the first is the headline."""
        ...

    @property
    def target_modules(self) -> tuple[str, ...] | str:
        """Where adapters go, unless the user says otherwise."""
        ...

    @property
    def head_modules(self) -> tuple[str, ...]:
        """Modules that begin untrained, train in full beside the adapter and are saved with it."""
        ...

    @property
    def evaluation_batch_size(self) -> int: ...

    def splits(self) -> Splits:
        """Return the rows to adapt to."""
        ...

    def base_model(self, cache: Path) -> nn.Module:
        """Return the pretrained model; what had to be made for it is kept in ``cache``."""
        ...

    def rehearse(self) -> Rehearsal:
        """Return the model without weights and a row: made up where the task knows its rows."""
        ...

    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Read what ``model``, whose ``output`` for ``batch`` is given, answers."""
        ...


@runtime_checkable
class WritingTask(Protocol):
    """A task whose model may write its answers: then they are not read from an output."""

    @property
    def writes(self) -> bool:
        """Whether it does, for the metrics that are asked for."""
        ...

    @property
    def writing_batch_size(self) -> int: ...


@runtime_checkable
class TextTask(Protocol):
    """A task whose model reads text."""

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the model's own; shared by the process, not to be changed."""
        ...


class TaskFacts(NamedTuple):
    """What is known of a task before it is built."""

    version: int
    metrics: tuple[str, ...]


PIXEL_FACTS = TaskFacts(version=1, metrics=("accuracy",))
TASKS = (
    {"digits": PIXEL_FACTS, "mnist": PIXEL_FACTS}
    | {name: TaskFacts(each.version, each.metrics) for name, each in GLUE.items()}
    | {name: TaskFacts(each.version, vtab.METRICS) for name, each in vtab.DEFINITIONS.items()}
    | dict.fromkeys(generation.CORPORA, TaskFacts(generation.VERSION, generation.METRICS))
    | {name: TaskFacts(own.VERSION, metrics) for name, metrics in own.METRICS.items()}
)
