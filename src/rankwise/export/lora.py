"""Publishing an adapter as a plain LoRA directory, which PEFT, vLLM and llama.cpp load.

ΔW = B A of every layer is written in closed form, from the adapter's own factors and without a
dense decomposition: LoRA-XS leaves with rank r, DeLoRA with rank 2r. All layers get one rank, the
largest among them, by columns of zeros in B and rows of zeros in A: servers want one rank and no
patterns. The scaling is in B, and lora_alpha = r.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save_file
from torch import Tensor, nn

from rankwise.core.directories import draft_of
from rankwise.core.errors import AdapterError, ChainError, ModelError
from rankwise.core.modules import device_of, preserved_state
from rankwise.methods.adapters.bridge import adapted_layers, delta, factors
from rankwise.methods.adapters.directory import sort_config
from rankwise.methods.adapters.peft_types import RankwisePeftType

PREFIX = "base_model.model."  # PEFT puts it before the names of the base model's modules
SERVED_RANK = 512  # the largest that vLLM takes
TOLERANCE = 1e-6

Factors = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class LoraExport:
    """What :func:`export_lora` wrote.

    Attributes:
        directory: Where it lies.
        rank: The rank of every layer.
        largest_difference: ‖ΔW read back - ΔW‖ / ‖ΔW‖ of the layer where it is largest.
    """

    directory: Path
    rank: int
    largest_difference: float


def export_lora(
    model: nn.Module, directory: str | Path, *, adapter_name: str = "default"
) -> LoraExport:
    """Write an adapter as a plain LoRA directory, and read it back before it appears.

    Modules in ``modules_to_save``, such as a classifier, go along. The directory appears under its
    name whole or not at all, and ``model`` stays as it is.

    Args:
        model: What ``peft.get_peft_model`` or ``PeftModel.from_pretrained`` returned.
        directory: A new or empty directory.
        adapter_name: The adapter to write.

    Raises:
        ModelError: The adapter is not of the form ΔW = B A, or has parts that LoRA cannot hold.
        ChainError: The adapter is a chain that is still open.
        SettingsError: The directory is a file or not empty.
        AdapterError: What was read back differs by more than 1e-6 relative to ‖ΔW‖.
    """
    directory = Path(directory)
    model = _checked(model, adapter_name)
    with torch.no_grad(), draft_of(directory) as draft:
        layers = adapted_layers(model, adapter_name)
        pairs = {name: factors(layer, adapter_name) for name, layer in layers.items()}
        rank = _write(draft, model, adapter_name, pairs)
        difference = _largest_difference(draft, model, pairs)
    if rank > SERVED_RANK:
        warnings.warn(
            f"the exported rank is {rank}, but vLLM serves up to {SERVED_RANK}: merge the adapter "
            "into the model instead, or train with a lower r",
            stacklevel=2,
        )
    return LoraExport(directory, rank, difference)


def _checked(model: nn.Module, adapter_name: str) -> PeftModel:
    if not isinstance(model, PeftModel):
        raise ModelError(
            f"export_lora takes the PeftModel that get_peft_model returns, got "
            f"{type(model).__name__}"
        )
    adapted_layers(model, adapter_name)
    config = model.peft_config[adapter_name]
    if config.peft_type == RankwisePeftType.RANKWISE_CHAIN:
        raise ChainError("the chain is still open, its folds are in the base: finish it first")
    for field, empty in (("bias", "none"), ("trainable_token_indices", None)):
        value = getattr(config, field, empty)
        if value != empty:
            raise ModelError(
                f"the adapter was made with {field}={value!r}, which a plain LoRA directory cannot "
                "hold: merge_and_unload the model and save it whole"
            )
    return model


def _write(draft: Path, model: PeftModel, adapter_name: str, pairs: Factors) -> int:
    """Write the configuration and the tensors, and return the common rank."""
    rank = max(len(A) for _, A in pairs.values())
    _lora_config(model.peft_config[adapter_name], model, pairs, rank).save_pretrained(str(draft))
    sort_config(draft)
    tensors = _other_tensors(model, adapter_name, pairs)
    for name, (B, A) in pairs.items():
        missing = rank - len(A)
        tensors[f"{name}.lora_A.weight"] = nn.functional.pad(A, (0, 0, 0, missing))
        tensors[f"{name}.lora_B.weight"] = nn.functional.pad(B, (0, missing))
    # Cloned, because safetensors refuses tensors that share memory.
    whole = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in tensors.items()}
    save_file(whole, draft / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    return rank


def _lora_config(
    config: PeftConfig, model: PeftModel, names: Iterable[str], rank: int
) -> LoraConfig:
    return LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=[name.removeprefix(PREFIX) for name in names],
        modules_to_save=getattr(config, "modules_to_save", None),
        fan_in_fan_out=any(
            getattr(model.get_submodule(name), "fan_in_fan_out", False) for name in names
        ),
        task_type=config.task_type,
        base_model_name_or_path=config.base_model_name_or_path,
        revision=config.revision,
        inference_mode=True,
    )


def _other_tensors(
    model: PeftModel, adapter_name: str, layer_names: Iterable[str]
) -> dict[str, Tensor]:
    """Return what PEFT saves with the adapter beside its layers, modules_to_save above all."""
    layers = tuple(f"{name}." for name in layer_names)
    saved = get_peft_model_state_dict(model, adapter_name=adapter_name)
    return {key: tensor for key, tensor in saved.items() if not key.startswith(layers)}


def _largest_difference(draft: Path, model: PeftModel, pairs: Factors) -> float:
    """Read the directory back with PEFT and return the largest relative difference of a ΔW."""
    # The copy shares every tensor with the model: it costs no memory beyond its module objects.
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    with preserved_state(model):
        base = copy.deepcopy(model, shared).unload()
        reread = PeftModel.from_pretrained(base, draft, torch_device=str(device_of(model)))
        layers = adapted_layers(reread)
    if layers.keys() != pairs.keys():
        surplus = sorted(layers.keys() ^ pairs.keys())
        raise AdapterError(f"PEFT would put the exported LoRA on other layers: {surplus}")
    largest = 0.0
    for name, (B, A) in pairs.items():
        expected = B.float() @ A.float()
        error = torch.linalg.norm(delta(layers[name], "default").float() - expected).item()
        difference = error / (torch.linalg.norm(expected).item() or 1.0)
        if not difference <= TOLERANCE:
            raise AdapterError(
                f"the exported change of {name} differs by {difference:.1e} of its norm when read "
                "back: the adapter has values that are not finite, or this PEFT reads it otherwise"
            )
        largest = max(largest, difference)
    return largest
