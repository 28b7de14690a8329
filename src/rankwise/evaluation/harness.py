"""EleutherAI's lm-evaluation-harness on a model of ours: a second opinion on its answers.

Gao et al., "The Language Model Evaluation Harness" (https://github.com/EleutherAI/lm-evaluation-harness).
It brings its own tasks, prompts and scores. The model is handed over as it is in memory, so any
adapter can be evaluated. The seeds are the harness's own, so its numbers compare with those of
others.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets.exceptions import DatasetsError
from torch import nn
from transformers import PreTrainedTokenizerBase

from rankwise.core.errors import DataError, ModelError, SettingsError, nearest_names
from rankwise.core.modules import in_eval_mode

# What a task's file, its data set and the functions it names may raise when it is loaded.
_LOADING = (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError, DatasetsError)
_SEEDS = ("random", "numpy", "torch", "fewshot")
_SCORES = ("results", "groups", "group_subtasks")
_FACTS = ("versions", "n-shot", "n-samples", "higher_is_better", "configs")


@dataclass(frozen=True)
class HarnessTask:
    """A task of the harness, or a group of them, with its data at hand.

    Attributes:
        name: As the user gave it.
        parts: The harness's own ``Task`` and ``Group`` objects.
        manager: The ``TaskManager`` that made them.
    """

    name: str
    parts: tuple[Any, ...]
    manager: Any


@dataclass(frozen=True)
class Measure:
    """One number of a result; ``error`` is its standard error, None where there is none."""

    task: str
    version: str
    rows: str
    shots: str
    metric: str
    value: float
    error: float | None


@dataclass(frozen=True)
class HarnessResult:
    """What the harness found, in its own words: only numbers, texts, lists and mappings."""

    name: str
    seconds: float
    content: dict[str, Any]

    def measures(self) -> list[Measure]:
        """Return every score of every task and group, in the harness's order."""
        return [
            self._measure(task, key, scores)
            for task, scores in self.content["results"].items()
            for key, value in scores.items()
            if "," in key and "_stderr," not in key and isinstance(value, (int, float))
        ]

    def _measure(self, task: str, key: str, scores: Mapping[str, Any]) -> Measure:
        metric, _, used = key.partition(",")
        error = scores.get(f"{metric}_stderr,{used}")
        counts = self.content["n-samples"].get(task)
        rows = f"{counts['effective']:,} of {counts['original']:,}" if counts else "-"
        version, shots = (str(self.content[part].get(task, "-")) for part in ("versions", "n-shot"))
        metric = metric if used == "none" else f"{metric} ({used})"
        value, error = scores[key], error if isinstance(error, float) else None
        return Measure(task, version, rows, shots, metric, value, error)


def find_tasks(names: Sequence[str], folder: Path | None = None) -> list[HarnessTask]:
    """Return the harness's tasks, groups or tags of these names, each with its data read.

    Args:
        names: As ``lm_eval ls tasks`` shows them, or those of the files in ``folder``.
        folder: YAML files of the user's own; they may name Python functions, which are run.

    Raises:
        DataError: A task's file or data cannot be read.
        SettingsError: The harness is not installed, there is no such task, or none for text alone.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise SettingsError(
            "--harness lm_eval needs EleutherAI's harness: pip install 'rankwise[harness]'"
        )
    if folder is not None and not folder.is_dir():
        raise SettingsError(f"--include-path must be a folder with YAML files, got {folder}")
    manager = _manager(folder)
    for name in names:
        if name not in manager.task_index:
            near = nearest_names(name, manager.all_tasks)
            raise SettingsError(f"the harness has no task {name!r}; {near}")
    return [_load(manager, name) for name in names]


def run_harness(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: HarnessTask,
    *,
    rows: int | None = None,
    batch_size: int = 16,
) -> HarnessResult:
    """Return the harness's scores of a causal model on ``task``.

    Global random states and the model's mode are restored.

    Args:
        model: With or without an adapter, on the device that it is to use.
        tokenizer: Its own; it is not changed.
        task: From :func:`find_tasks`.
        rows: The first so many rows of each task; None: all.
        batch_size: Requests at once.

    Raises:
        ModelError: The harness refuses this model, for example one of too short a context.
    """
    import lm_eval

    # Its decorators hide its arguments from type checkers.
    evaluate: Any = lm_eval.simple_evaluate
    begun = time.perf_counter()
    try:
        with in_eval_mode(model), _random_states_kept():
            found = evaluate(
                model=_wrap(model, tokenizer, batch_size),
                tasks=list(task.parts),
                task_manager=task.manager,
                limit=rows,
                batch_size=batch_size,
                log_samples=False,
            )
    # It checks what it was given by assertions, too.
    except (ValueError, AssertionError) as error:
        raise ModelError(f"the harness cannot evaluate {task.name}: {error}") from error
    content = {name: _plain(found.get(name, {})) for name in (*_SCORES, *_FACTS)}
    content["lm_eval"] = found["lm_eval_version"]
    content["seeds"] = {name: found["config"][f"{name}_seed"] for name in _SEEDS}
    return HarnessResult(task.name, time.perf_counter() - begun, content)


@lru_cache(maxsize=1)
def _manager(folder: Path | None) -> Any:
    """Return the index of all tasks; kept, because it reads some ten thousand files."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=None if folder is None else str(folder))


def _load(manager: Any, name: str) -> HarnessTask:
    try:
        loaded = manager.load([name])
    except _LOADING as error:
        raise DataError(
            f"the harness's task {name!r} cannot be loaded ({type(error).__name__}: {error}): "
            "check its file and its data, or whether the Hub can be reached"
        ) from error
    for each in loaded["tasks"].values():
        if getattr(each, "UNSAFE_CODE", False):
            raise SettingsError(f"{each.task_name} runs code that a model wrote: not done here")
        if getattr(each, "MULTIMODAL", False):
            raise SettingsError(f"{each.task_name} asks about more than text: not done here")
    group = loaded.get("groups", {}).get(name)
    parts = tuple(loaded["tasks"].values()) if group is None else (group,)
    return HarnessTask(name, parts, manager)


def _wrap(model: Any, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> Any:
    from lm_eval.models.huggingface import HFLM

    wrapper: Any = HFLM
    end = tokenizer.encode("a")[-1:] == [tokenizer.eos_token_id]
    logger = logging.getLogger("lm_eval.models.huggingface")
    level = logger.level
    logger.setLevel(logging.ERROR)  # It warns of every model that is handed over.
    try:
        return wrapper(
            pretrained=model,
            # It gives the tokenizer a padding token.
            tokenizer=copy.deepcopy(tokenizer),
            batch_size=batch_size,
            softmax_dtype=torch.float32,
            # An end after each text would stand between a question and its answer.
            add_bos_token=False if end else None,
        )
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _random_states_kept() -> Iterator[None]:
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _plain(value: Any) -> Any:
    """Return ``value`` as JSON can hold it; a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
