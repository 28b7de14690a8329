"""A model with its adapter merged in: the full weights, in shards, in the dtype that they had."""

from __future__ import annotations

import copy
from pathlib import Path

from huggingface_hub import save_torch_model
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from rankwise.core.errors import ChainError, ModelError
from rankwise.methods.adapters.bridge import adapted_layers
from rankwise.methods.adapters.peft_types import RankwisePeftType
from rankwise.methods.adapters.quantised import backend_of


def export_merged(
    model: nn.Module,
    directory: Path,
    *,
    adapter_name: str = "default",
    shard_size: int | str = "5GB",
) -> None:
    """Write the weights of ``model`` with an adapter merged in; ``model`` stays as it is.

    It takes the memory of one more copy of the model. A model of Transformers is written by its own
    ``save_pretrained``, any other as ``model.safetensors`` or its shards with an index.

    Raises:
        ModelError: ``model`` is no ``PeftModel``, or an adapted weight is quantised.
        ChainError: The adapter is a chain that is still open.
    """
    if not isinstance(model, PeftModel):
        raise ModelError(f"merging needs a PeftModel with an adapter, got {type(model).__name__}")
    if model.peft_config[adapter_name].peft_type == RankwisePeftType.RANKWISE_CHAIN:
        raise ChainError("the chain is still open, its folds are in the base: finish it first")
    for name, layer in adapted_layers(model, adapter_name).items():
        base = layer.get_base_layer()
        if backend_of(base) is not None or not base.weight.is_floating_point():  # type: ignore
            raise ModelError(
                f"{name} is quantised ({base.weight.dtype}), and merging would round the "
                "change away: load the base in bfloat16 or export with --target lora"
            )
    merged = copy.deepcopy(model).merge_and_unload(adapter_names=[adapter_name])
    if isinstance(merged, PreTrainedModel):
        merged.save_pretrained(directory, max_shard_size=shard_size)
    else:
        directory.mkdir(parents=True)
        save_torch_model(merged, directory, max_shard_size=shard_size)
