"""How what was exported is loaded again: by which class, told by that of the base model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from transformers.models.auto import modeling_auto as auto

_GGUF = ".gguf"
_PACKAGE = "package:"
_ON_BASE = 'model = PeftModel.from_pretrained(base, "DIRECTORY")'
_MOST_NAMES = 100


class LoadedBy(NamedTuple):
    """The classes that load a model of a kind, and PEFT's name for what it does.

    Attributes:
        auto_class: The Auto class of Transformers.
        names: The classes of models that it loads, by their types, as Transformers has them.
        task_type: PEFT's; None where it has none.
        has_head: Whether a part of it begins untrained in most checkpoints.
        has_classes: Whether that part has an output for each of so many classes.
    """

    auto_class: str
    names: Any
    task_type: str | None = None
    has_head: bool = False
    has_classes: bool = False


_KINDS = (
    LoadedBy(
        "AutoModelForSequenceClassification",
        auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        "SEQ_CLS",
        has_head=True,
        has_classes=True,
    ),
    LoadedBy(
        "AutoModelForTokenClassification",
        auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
        "TOKEN_CLS",
        has_head=True,
        has_classes=True,
    ),
    LoadedBy(
        "AutoModelForQuestionAnswering",
        auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
        "QUESTION_ANS",
        has_head=True,
    ),
    LoadedBy(
        "AutoModelForImageClassification",
        auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        has_head=True,
        has_classes=True,
    ),
    LoadedBy(
        "AutoModelForSeq2SeqLM",
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        "SEQ_2_SEQ_LM",
    ),
    LoadedBy("AutoModelForCausalLM", auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "CAUSAL_LM"),
)


def loaded_by(base: nn.Module) -> LoadedBy | None:
    """Return what loads a model of the class of ``base``; None if it is none of Transformers'."""
    name = type(base).__name__
    for kind in _KINDS:
        for names in kind.names.values():
            if name in ((names,) if isinstance(names, str) else names):
                return kind
    return None


def task_type_of(base: nn.Module, *, has_saved_modules: bool) -> str | None:
    """Return PEFT's task type of a base model, None where it has none that would load it.

    PEFT saves and trains the head of what has one. So an adapter without ``modules_to_save``, whose
    head is the base's own, has no task type.
    """
    kind = loaded_by(base)
    # PEFT's classes by task hand on input_ids, which a model of speech does not take.
    if kind is None or getattr(base, "main_input_name", None) != "input_ids":
        return None
    return kind.task_type if has_saved_modules or not kind.has_head else None


def adapter_code(base: nn.Module, config: Mapping[str, Any], *, dtype: str) -> str | None:
    """Return the lines of Python that load an adapter and its base; None for no base by a name.

    Args:
        base: The model that the adapter is on.
        config: What its ``adapter_config.json`` holds.
        dtype: Of the base's weights.
    """
    kind, name = loaded_by(base), config["base_model_name_or_path"]
    if kind is None or not name:
        return None
    options = _options(base, kind, dtype)
    if name.endswith(_GGUF):
        return _code_of_gguf(kind, name, options)
    if config["task_type"] is not None:
        auto_class = kind.auto_class.replace("Auto", "AutoPeft", 1)
        return (
            f"from peft import {auto_class}\n\n"
            f'model = {auto_class}.from_pretrained("DIRECTORY", {options})'
        )
    return (
        f"from peft import PeftModel\nfrom transformers import {kind.auto_class}\n\n"
        f'base = {kind.auto_class}.from_pretrained("{name}", {options})\n{_ON_BASE}'
    )


def _code_of_gguf(kind: LoadedBy, name: str, options: str) -> str:
    """Return the same for a base in a GGUF file, of which PEFT's own classes load none."""
    home, _, file = name.rpartition("/")
    found, place = "", f'"{home or "."}"'
    if name.startswith(_PACKAGE):
        # Found without being imported: a package of weights may import what is not installed.
        package, _, folder = home.removeprefix(_PACKAGE).partition("/")
        found = "from importlib.util import find_spec\n\n"
        place = f'find_spec("{package}").submodule_search_locations[0]'
        place += f' + "/{folder}"' if folder else ""
    elif not name.startswith(("/", ".", "~")) and name.count("/") > 1 and not Path(name).is_file():
        owner, repository, file = name.split("/", 2)
        place = f'"{owner}/{repository}"'
    options += ", quantization_config=GgufConfig(dequantize=True)"
    return (
        f"{found}from peft import PeftModel\nfrom transformers import {kind.auto_class}, GgufConfig"
        f'\n\nbase = {kind.auto_class}.from_pretrained({place}, gguf_file="{file}", {options})\n'
        f"{_ON_BASE}"
    )


def merged_code(base: nn.Module, *, dtype: str) -> str | None:
    """Return the lines of Python that load merged weights; None if no Auto class does."""
    kind = loaded_by(base)
    if kind is None:
        return None
    return (
        f"from transformers import {kind.auto_class}\n\n"
        f'model = {kind.auto_class}.from_pretrained("DIRECTORY", dtype="{dtype}")'
    )


def _options(base: nn.Module, kind: LoadedBy, dtype: str) -> str:
    said = f'dtype="{dtype}"'
    if kind.has_classes:
        # A head of other classes in the base's checkpoint makes room for the adapter's.
        config: Any = base.config
        said += f", num_labels={config.num_labels}, ignore_mismatched_sizes=True"
        names = [config.id2label[number] for number in sorted(config.id2label)]
        if (
            names != [f"LABEL_{number}" for number in range(len(names))]
            and len(names) <= _MOST_NAMES
        ):
            said += f", id2label={dict(enumerate(names))}"
    return said
