"""From the settings of a task on the user's own data to the task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankwise.core.errors import SettingsError
from rankwise.evaluation.own_metrics import find_metric
from rankwise.tasks.own.causal_lm import CausalLm
from rankwise.tasks.own.division import Cut
from rankwise.tasks.own.image_classification import ImageClassification
from rankwise.tasks.own.preference import Preference
from rankwise.tasks.own.sft import SupervisedFineTuning
from rankwise.tasks.own.source import Source
from rankwise.tasks.own.task import OwnTask
from rankwise.tasks.own.text_classification import TextClassification
from rankwise.tasks.own.text_to_text import TextToText
from rankwise.tasks.own.token_classification import TokenClassification
from rankwise.training.settings.own_data import (
    CausalLmSettings,
    ImageClassificationSettings,
    OwnDataSettings,
    PreferenceSettings,
    SftSettings,
    TextClassificationSettings,
    TextToTextSettings,
    TokenClassificationSettings,
)

_TASKS: dict[type[OwnDataSettings], type[OwnTask]] = {
    TextClassificationSettings: TextClassification,
    ImageClassificationSettings: ImageClassification,
    TokenClassificationSettings: TokenClassification,
    SftSettings: SupervisedFineTuning,
    TextToTextSettings: TextToText,
    CausalLmSettings: CausalLm,
    PreferenceSettings: Preference,
}
_NOTES = {
    "repeated": "{:,} repeat another",
    "duplicates_of_train": "{:,} stand in training too",
    "truncated": "{:,} are cut to the greatest length",
    "truncated_targets": "{:,} are cut in what is to be written",
    "left_out": "{:,} are left out: no room for a completion",
    "blocks": "{:,} blocks of tokens",
    "packs": "packed into {:,} sequences",
}
_COMMON = OwnDataSettings.model_fields.keys()


def build_own_task(settings: OwnDataSettings, seed: int) -> OwnTask:
    """Return the task; nothing is read yet.

    Args:
        settings: Of the task.
        seed: Of the run.

    Raises:
        SettingsError: A metric is unknown, or the first is one that falls as models get better.
    """
    _check_metrics(settings.metrics)
    own: dict[str, Any] = settings.model_dump(exclude={"name", *_COMMON})
    if isinstance(settings, TextClassificationSettings):
        if len(settings.text) > 2:
            raise SettingsError(f"task.text takes one column or two, got {settings.text}")
        own["text"] = tuple(settings.text)
    return _TASKS[type(settings)](
        source=_source(settings),
        cut=_cut(settings, seed),
        model=settings.model,
        asked_metrics=tuple(settings.metrics),
        head_seed=seed,
        dtype=settings.dtype,
        quantization=settings.quantization,
        attn_implementation=settings.attn_implementation,
        device_map=settings.device_map,
        **own,
    )


def _source(settings: OwnDataSettings) -> Source:
    return Source(
        settings.data,
        digest=settings.data_digest,
        config=settings.config,
        train=settings.train,
        validation=settings.validation,
        test=settings.test,
        delimiter=settings.delimiter,
        has_quotes=settings.quotes,
    )


def _cut(settings: OwnDataSettings, seed: int) -> Cut:
    return Cut(
        settings.held_out,
        seed=seed if settings.split_seed is None else settings.split_seed,
        max_duplicates=settings.max_duplicates,
        rows=settings.rows,
    )


def _check_metrics(names: list[str]) -> None:
    for position, name in enumerate(names):
        try:
            falls = find_metric(name).falls
        except SettingsError as error:
            raise SettingsError(f"task.metrics: {error}") from error
        if falls and not position:
            raise SettingsError(
                f"task.metrics: {name} falls as models get better, and the first is compared: put "
                "likelihood, which is 1 / perplexity, before it"
            )


def described(facts: Mapping[str, Any]) -> list[str]:
    """Say of the splits of a task how many rows they have, and what was cut, left out or repeated.

    Args:
        facts: Of the splits, as a record keeps them.
    """
    columns = facts.get("columns", {})
    sentences = []
    if classes := columns.get("classes"):
        shown = ", ".join(classes[:10]) + (", …" if len(classes) > 10 else "")
        sentences.append(f"{len(classes)} classes: {shown}")
    for split in ("train", "validation", "test"):
        found = facts[split]
        notes = [
            text.format(count)
            for name, text in _NOTES.items()
            if (count := found.get(name)) and isinstance(count, int)
        ]
        rows = f"{split}: {found['rows']:,} rows"
        rows += ", cut out of training" if found.get("cut") else ""
        sentences.append("; ".join([rows, *notes]))
    if count := columns.get("contradicting"):
        sentences.append(f"{count:,} texts bear several labels")
    if count := columns.get("alike"):
        sentences.append(f"{count:,} rows are left out: what was chosen is what was rejected")
    return sentences
