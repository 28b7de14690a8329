"""A model with its adapter merged in: the full weights, in shards, in the dtype that they had."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_model
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rankwise.core.autocast import without_autocast
from rankwise.core.directories import draft_of
from rankwise.core.errors import ModelError
from rankwise.export.lora import closed_adapter
from rankwise.methods.adapters.bridge import adapted_layers
from rankwise.methods.adapters.quantised import backend_of
from rankwise.methods.adapters.stacks import adapted_parameter


@without_autocast()
def export_merged(
    model: nn.Module,
    directory: Path,
    *,
    adapter_name: str = "default",
    shard_size: int | str = "5GB",
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Write the weights of ``model`` with an adapter merged in; ``model`` stays as it is.

    It takes the memory of one more copy of the model. A model of Transformers is written by its own
    ``save_pretrained``, any other as ``model.safetensors`` or its shards with an index. The
    directory appears whole or not at all.

    Args:
        model: A ``PeftModel``.
        directory: A new or empty directory.
        adapter_name: The adapter to merge.
        shard_size: The largest file.
        tokenizer: Written beside the weights: llama.cpp's converter asks for it.

    Raises:
        ModelError: ``model`` is no ``PeftModel``, an adapted weight is quantised, the base was read
            from a file that Transformers cannot write again (GGUF), or a merged weight is not
            finite in its dtype.
        ChainError: The adapter is a chain that is still open.
        SettingsError: The directory is a file or not empty.
    """
    model = closed_adapter(model, adapter_name)
    _check_weights(model, adapter_name)
    with draft_of(directory) as draft:
        merged = _merged(model, adapter_name)
        if isinstance(merged, PreTrainedModel):
            merged.save_pretrained(draft, max_shard_size=shard_size)
        else:
            draft.mkdir()
            save_torch_model(merged, draft, max_shard_size=shard_size)
        if tokenizer is not None:
            tokenizer.save_pretrained(draft)


def _check_weights(model: PeftModel, adapter_name: str) -> None:
    for name, layer in adapted_layers(model, adapter_name).items():
        base: Any = layer.get_base_layer()
        weight = adapted_parameter(layer)
        if backend_of(base) is not None or not weight.is_floating_point():
            raise ModelError(
                f"{name} is quantised ({weight.dtype}), and merging would round the "
                "change away: load the base in bfloat16 or export with --target lora"
            )
    quantizer: Any = getattr(model.get_base_model(), "hf_quantizer", None)
    if quantizer is not None and not quantizer.is_serializable():
        method = quantizer.quantization_config.quant_method
        raise ModelError(
            f"the base was read from {getattr(method, 'value', method)}, which Transformers does "
            "not write again: load it from safetensors or export with --target lora"
        )


def _merged(model: PeftModel, adapter_name: str) -> Any:
    tuner: Any = copy.deepcopy(model)
    try:
        return tuner.merge_and_unload(safe_merge=True, adapter_names=[adapter_name])
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(
            f"a merged weight is not finite ({error}): the change is too large for the weights' "
            "dtype, or the adapter has diverged; load the base in bfloat16 or float32, or export "
            "with --target lora"
        ) from error
