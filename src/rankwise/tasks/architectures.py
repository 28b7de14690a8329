"""Architectures without weights: the configurations of the papers' models ship with Rankwise.

They are the sizes that the models' authors publish, nothing else: enough to build a model on the
meta device, where it takes no memory, and to count what an adapter on it trains.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerFast

from rankwise.core.errors import ModelError, nearest_names
from rankwise.tasks.pretrained import Dtype, find_model, from_pretrained, is_gguf, torch_dtype

_SUFFIX = ".json"


def architecture_names() -> list[str]:
    """Return the names on the Hub of the models whose configuration ships."""
    files = (resources.files("rankwise") / "architectures").iterdir()
    names = (file.name for file in files if file.name.endswith(_SUFFIX))
    return sorted(name.removesuffix(_SUFFIX).replace("--", "/") for name in names)


def read_architecture(name: str, **options: Any) -> PreTrainedConfig:
    """Return the configuration of the model ``name``: a shipped one, or one of the Hub's as a file.

    The file is a ``config.json`` or the folder of one, or a GGUF file.

    Raises:
        ModelError: It is none of these.
    """
    found = Path(find_model(name))
    if is_gguf(found.name) or found.is_dir() or (found.suffix == _SUFFIX and found.is_file()):
        return from_pretrained(AutoConfig, str(found), **options)
    if name not in (known := architecture_names()):
        raise ModelError(
            f"no configuration of {name!r} ships, and it is no config.json or folder of one "
            f"(fetch the model's from the Hub and name the file); {nearest_names(name, known)}"
        )
    file = resources.files("rankwise") / "architectures" / f"{name.replace('/', '--')}{_SUFFIX}"
    sizes = json.loads(file.read_text(encoding="utf-8"))
    return AutoConfig.for_model(sizes.pop("model_type"), **sizes, **options)


def build_on_meta(kind: Any, config: PreTrainedConfig, dtype: Dtype = "float32") -> nn.Module:
    """Return the model that ``kind``, an Auto class, makes of ``config``; its tensors are empty."""
    with torch.device("meta"):
        return kind.from_config(config, dtype=torch_dtype(dtype))


def word_tokenizer(texts: Iterable[str], config: PreTrainedConfig) -> PreTrainedTokenizerFast:
    """Return a tokenizer that knows the words of ``texts`` and the special tokens of ``config``.

    It stands in for the model's own, which is not at hand without the Hub.
    """
    pad, end = config.pad_token_id or 0, config.eos_token_id or 1
    vocabulary = {"<pad>": pad, "</s>": end}
    free = (number for number in range(config.vocab_size) if number not in (pad, end))
    vocabulary["<unk>"] = next(free)
    for text in texts:
        for word in text.split():
            if word not in vocabulary:
                vocabulary[word] = next(free)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
