"""Pretrained models and tokenizers of Transformers: from the Hub, a folder, or a Python package.

A name that ends with ``.gguf`` is a file of llama.cpp, whose weights Transformers dequantises.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from huggingface_hub import is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerBase,
    TorchAoConfig,
    modeling_gguf_pytorch_utils,
)
from transformers.utils import logging
from transformers.utils.quantization_config import GgufConfig

from rankwise.core.accelerator import local_device
from rankwise.core.errors import ModelError
from rankwise.core.library_noise import without_bars
from rankwise.tasks.hub import silence_of_hub, told_silence
from rankwise.tasks.table import Dtype

Quantization = Literal["nf4", "int8", "int8-torchao"]

_PACKAGE = "package:"
_GGUF = ".gguf"
_read_gguf = modeling_gguf_pytorch_utils.load_gguf_checkpoint


def find_model(name: str) -> str:
    """Return what Transformers loads for ``name``: itself, or the folder or file inside a package.

    ``package:NAME/FOLDER`` is the folder FOLDER of the installed Python package NAME, and
    ``package:NAME/FILE.gguf`` a file of it.

    Raises:
        ModelError: The package is not installed or has no such folder or file.
    """
    if not name.startswith(_PACKAGE):
        return name
    package, _, folder = name.removeprefix(_PACKAGE).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        raise ModelError(
            f"{name} needs the Python package {package!r}: pip install {package.replace('_', '-')}"
        )
    path = Path(spec.origin).parent / folder
    if not (path.is_file() if is_gguf(folder) else path.is_dir()):
        files = sorted(each.name for each in Path(spec.origin).parent.glob(f"*{_GGUF}"))
        there = f"; there is {', '.join(files)}" if files else ""
        raise ModelError(f"package {package!r} has no folder or .gguf file {folder!r}{there}")
    return str(path)


def from_pretrained(kind: Any, name: str, **options: Any) -> Any:
    """Return what ``kind``, a class of Transformers, loads for ``name``; code beside it never runs.

    Raises:
        ModelError: There is no such thing, or it needs code of its own.
    """
    found = find_model(name)
    if is_gguf(found):
        return _from_gguf(kind, found, name, **options)
    if found.startswith(("/", "./", "../", "~")) and not Path(found).exists():
        raise ModelError(f"model {name!r} cannot be loaded: there is no such folder")
    if not Path(found).exists():
        _check_hub(found, "config.json")
    with loading_errors(name):
        return kind.from_pretrained(found, trust_remote_code=False, **options)


def is_gguf(name: str) -> bool:
    """Say whether a model's name is that of a GGUF file."""
    return name.endswith(_GGUF)


def _from_gguf(kind: Any, found: str, name: str, **options: Any) -> Any:
    """Return what ``kind`` loads from a GGUF file: a local one, or OWNER/NAME/FILE on the Hub."""
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{name} needs the package gguf: pip install 'rankwise[gguf]'")
    home, _, file = found.rpartition("/")
    if not Path(found).is_file():
        owner, _, rest = found.partition("/")
        repository, _, file = rest.partition("/")
        if found.startswith(("/", ".")) or not file:
            raise ModelError(f"there is no file {found!r}")
        home = f"{owner}/{repository}"
        _check_hub(home, file)
    is_model = kind.__name__.startswith("AutoModel")
    if is_model:
        # Packed weights take no gradient to what stands before them.
        options = {"quantization_config": GgufConfig(dequantize=True)} | options
    with loading_errors(name), _gguf_read_once():
        loaded = kind.from_pretrained(
            home or ".", gguf_file=file, trust_remote_code=False, **options
        )
    if is_model:
        if (quantizer := getattr(loaded, "hf_quantizer", None)) is not None:
            quantizer.remove_quantization_config(loaded)
        # An adapter's config says of which base it is: the folder would not tell.
        loaded.name_or_path = name
    return loaded


def _check_hub(name: str, file: str) -> None:
    """Ask the Hub once for a model that its cache lacks: Transformers asks for over a minute.

    Raises:
        ModelError: There is no answer.
    """
    try:
        if is_offline_mode() or try_to_load_from_cache(name, file) is not None:
            return
    except HFValidationError:
        return  # what is wrong with the name is told where it is loaded
    if (silence := silence_of_hub(name, file)) is not None:
        raise ModelError(_unreachable(name, f" ({told_silence(silence)})")) from silence


def _unreachable(name: str, details: str = "") -> str:
    return (
        f"model {name!r} cannot be loaded: no folder here is called so, it has not been fetched "
        f"before, and the Hub cannot be reached{details}. Name a folder that holds a model, or "
        "fetch it where there is a network"
    )


@contextlib.contextmanager
def _gguf_read_once() -> Iterator[None]:
    """Keep what Transformers reads of a GGUF file beside the tensors; and its bar to itself.

    It reads the vocabulary, for seconds, each time that a configuration, a tokenizer or a model is
    asked for; and it draws a bar of tensors past its own switch for bars.
    """
    module: Any = modeling_gguf_pytorch_utils
    bar, read = module.tqdm, module.load_gguf_checkpoint

    def read_once(path: Any, return_tensors: bool = False, **options: Any) -> Any:
        if return_tensors:
            return read(path, return_tensors=True, **options)
        stamp = Path(path).stat()
        return copy.deepcopy(_described(str(path), stamp.st_size, stamp.st_mtime_ns))

    module.tqdm, module.load_gguf_checkpoint = partial(bar, disable=True), read_once
    try:
        yield
    finally:
        module.tqdm, module.load_gguf_checkpoint = bar, read


@lru_cache(maxsize=2)
def _described(file: str, _size: int, _changed: int) -> dict[str, Any]:
    """Return what a GGUF file of that size, changed then, says of itself."""
    return _read_gguf(file)


@lru_cache(maxsize=4)
def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the model ``name``; kept, because every run and batch asks for it.

    Raises:
        ModelError: There is none, or it has no token for padding.
    """
    tokenizer = from_pretrained(AutoTokenizer, name)
    if tokenizer.pad_token_id is None:
        raise ModelError(f"the tokenizer of {name} has no padding token: give it a pad_token")
    return tokenizer


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the number of the padding token, which :func:`load_tokenizer` has made sure of."""
    return cast(int, tokenizer.pad_token_id)


def load_model(
    kind: Any, name: str, *, seed: int, dtype: Dtype = "float32", **options: Any
) -> nn.Module:
    """Return the model ``name`` through ``kind``, an Auto class of Transformers, in ``dtype``.

    What the checkpoint lacks, such as a head, is drawn from ``seed``; the global random state
    stays.

    Raises:
        ModelError: There is no such model, or its architecture has no such head.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return from_pretrained(kind, name, dtype=torch_dtype(dtype), **options)


def class_options(names: Sequence[str]) -> dict[str, Any]:
    """Return what a model's configuration has to say about a head of classes of these names."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }


def quantization_options(
    quantization: Quantization | None, *, dtype: Dtype, heads: Iterable[str]
) -> dict[str, Any]:
    """Return the options with which Transformers quantises weights as it loads them.

    nf4 and int8 are bitsandbytes' (nf4 with its double quantisation), int8-torchao is torchao's
    of weights alone.

    Args:
        quantization: In what weights are held; None: in ``dtype``.
        dtype: In which layers compute.
        heads: Modules that stay as they are, because they train in full.

    Raises:
        ModelError: torchao is not installed.
    """
    if quantization is None:
        return {}
    kept = [*heads, "lm_head"]
    config: Any
    if quantization == "int8-torchao":
        try:
            from torchao.quantization import Int8WeightOnlyConfig
        except ImportError as error:
            raise ModelError(
                f"quantization {quantization} needs torchao ({error}): pip install rankwise[quant]"
            ) from error
        # Its Int8Tensor, which is not yet the default of torchao 0.16.
        config = TorchAoConfig(Int8WeightOnlyConfig(version=2), modules_to_not_convert=kept)
    elif quantization == "nf4":
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch_dtype(dtype),
            llm_int8_skip_modules=kept,
        )
    else:
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    # bitsandbytes puts its weights where they are used as it reads them.
    return {"quantization_config": config, "device_map": str(local_device())}


def torch_dtype(name: Dtype) -> torch.dtype:
    """Return PyTorch's dtype of this name."""
    return getattr(torch, name)


def hold_in_float32(model: nn.Module, names: Iterable[str]) -> None:
    """Hold the children ``names`` of ``model``, where there are such, in float32.

    They take inputs of any floating dtype. It is for heads that train in full: in a dtype of fewer
    digits small updates would round away.
    """
    for name, child in model.named_children():
        if name in names:
            child.float().register_forward_pre_hook(_widen)


def _widen(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        each.float() if isinstance(each, Tensor) and each.is_floating_point() else each
        for each in inputs
    )


@contextlib.contextmanager
def loading_errors(name: str) -> Iterator[None]:
    """Turn Transformers' errors into ours, and keep its reports of missing heads to itself."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with without_bars():
            yield
    # A missing quantisation library or attention kernel is an ImportError.
    except (OSError, ValueError, KeyError, ImportError) as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"model {name!r} needs code that comes with it, which Rankwise does not run: take "
                "a model of an architecture that Transformers has"
            ) from error
        if "Unrecognized configuration class" in str(error):
            raise ModelError(_of_another_kind(name, str(error))) from error
        if "couldn't connect to" in str(error):
            raise ModelError(_unreachable(name)) from error
        raise ModelError(f"model {name!r} cannot be loaded: {error}") from error
    finally:
        logging.set_verbosity(verbosity)


def _of_another_kind(name: str, message: str) -> str:
    """Say that a model is not made for the task; Transformers lists all that would be."""
    config = re.search(r"(\w+)'>", message)
    kind = re.search(r"AutoModel\w*: (\w+)", message)
    return (
        f"model {name!r} ({config[1] if config else 'of an unknown configuration'}) is none for "
        f"{kind[1] if kind else 'this task'}: choose another --task.model, or the --task.name that "
        "it is made for, such as text-to-text for T5"
    )
