"""A recipe for data of the user's own, made of what is known of them and of what is said.

The methods are those that Rankwise is about beside LoRA. Rates, epochs and seeds are a beginning
that fits an afternoon: the grid of rates grows where its edge is best.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rankwise.core.errors import SettingsError
from rankwise.tasks.own.guess import guess_task
from rankwise.tasks.own.source import HUB, Source, digest_of, guess_delimiter
from rankwise.training.settings.layers import Tree

COLUMNS = (
    "text",
    "label",
    "image",
    "words",
    "tags",
    "prompt",
    "completion",
    "messages",
    "chosen",
    "rejected",
)
_OF_A_SOURCE = ("config", "train", "validation", "test", "delimiter")
_FILES = ("validation", "test", "image_folder")
_METHODS = (
    {"name": "lora"},  # at the rank of the recipe's own method, from which the budget follows
    {"name": "abm-lora", "r": 8},
    # Of the size of LoRA's factors: under the rates of LoRA, larger sketches ruin wide layers.
    {"name": "rac-lora", "r": 16, "schedule": {"every_epochs": 1, "sketch": "kaiming"}},
    {"name": "lora-sb", "r": 64},
    {"name": "delora", "r": 8},
)


def data_recipe(data: str, overrides: Tree) -> Tree:
    """Return the recipe for ``data`` as a tree of settings; ``overrides`` still go on top.

    Raises:
        DataError: The data cannot be read, or leave in doubt what they are for.
        SettingsError: No model is named.
    """
    given = overrides.get("task", {})
    if not isinstance(given, dict) or not given.get("model"):
        raise SettingsError(
            f"which model is to be adapted to {data}? set --task.model to its folder or its name "
            "on the Hub"
        )
    place = data if data.startswith(HUB) else str(Path(data).absolute())
    own = {name: given[name] for name in ("validation", "test") if given.get(name) is not None}
    guessed = {} if "delimiter" in given else {"delimiter": guess_delimiter(place)}
    told = guessed | given | own
    options: dict[str, Any] = {
        name: value for name in _OF_A_SOURCE if (value := told.get(name)) is not None
    }
    source = Source(place, has_quotes=given.get("quotes", True) is not False, **options)
    known = {name: given[name] for name in ("name", *COLUMNS) if given.get(name)}
    task = guess_task(source, known) | guessed
    return {
        "task": {
            **task,
            "data": place,
            "data_digest": digest_of(place, *own.values()),
            **own,
        },
        "method": {"name": "lora", "r": 8},
        "training": {
            "epochs": 3,
            "batch_size": 16,
            "learning_rate": 1e-3,
            "scheduler": "linear",
            "warmup_ratio": 0.06,
            "max_grad_norm": 1.0,
            "keep": "best",
        },
        "compare": {
            "methods": [dict(method) for method in _METHODS],
            "learning_rates": [3e-4, 1e-3, 3e-3],
            "seeds": [0, 1, 2],
            "sweep_seeds": 1,
            "widenings": 2,
            "baseline": "lora",
        },
    }


def with_absolute_files(overrides: Tree) -> Tree:
    """Return the overrides with files as they are found from anywhere; names of splits stay."""
    task = overrides.get("task", {})
    found = {
        name: str(Path(task[name]).absolute())
        for name in _FILES
        if isinstance(task, dict) and isinstance(task.get(name), str) and Path(task[name]).exists()
    }
    return overrides | {"task": task | found} if found else overrides
