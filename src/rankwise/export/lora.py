"""Publishing an adapter as a plain LoRA directory, which PEFT, vLLM and llama.cpp load.

ΔW = B A of every layer is written in closed form, from the adapter's own factors and without a
dense decomposition: LoRA-XS leaves with rank r, DeLoRA with rank 2r, a chain with Σr, but never
with more than the smaller side of a layer, where a QR decomposition of the factors takes it. All
layers get one rank, the largest among them, by columns of zeros in B and rows of zeros in A:
servers want one rank and no patterns. The scaling is in B, and lora_alpha = r. Stacks of experts
leave as PEFT's ``target_parameters``.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME, ModulesToSaveWrapper
from safetensors.torch import save_file
from torch import Tensor, nn

from rankwise.core.autocast import without_autocast
from rankwise.core.directories import draft_of
from rankwise.core.errors import AdapterError, ChainError, ModelError
from rankwise.core.library_noise import quiet_peft
from rankwise.core.modules import device_of, preserved_state
from rankwise.core.vllm import LARGEST_RANK
from rankwise.export.loading import task_type_of
from rankwise.export.serving import serving_notes
from rankwise.export.targets import find_targets
from rankwise.functional.compression import without_excess_rank
from rankwise.methods.adapters.adapter_names import adapter_names, check_adapter_names
from rankwise.methods.adapters.bridge import adapted_layers, delta, factors
from rankwise.methods.adapters.directory import sort_config
from rankwise.methods.adapters.peft_types import RankwisePeftType
from rankwise.methods.adapters.stacks import is_of_parameter, packed

PREFIX = "base_model.model."  # PEFT puts it before the names of the base model's modules
TOLERANCE = 1e-6

Factors = dict[str, tuple[Tensor, Tensor]]
SaveEmbeddings = bool | Literal["auto"]


@dataclass(frozen=True)
class LoraExport:
    """What :func:`export_lora` wrote.

    Attributes:
        directory: Where it lies.
        rank: The rank of every layer.
        largest_difference: ‖ΔW read back - ΔW‖ / ‖ΔW‖ of the layer where it is largest.
        notes: What servers ask of it, a sentence each.
    """

    directory: Path
    rank: int
    largest_difference: float
    notes: tuple[str, ...] = ()


def export_lora(
    model: nn.Module,
    directory: str | Path,
    *,
    adapter_name: str = "default",
    save_embedding_layers: SaveEmbeddings = "auto",
) -> LoraExport:
    """Write an adapter as a plain LoRA directory, and read it back before it appears.

    Modules in ``modules_to_save``, such as a classifier, go along, and the base model's class tells
    the ``task_type`` where the adapter has none, so that PEFT's Auto classes load it. The directory
    appears under its name whole or not at all, and ``model`` stays as it is.

    Args:
        model: What ``peft.get_peft_model`` or ``PeftModel.from_pretrained`` returned.
        directory: A new or empty directory.
        adapter_name: The adapter to write.
        save_embedding_layers: As in PEFT's ``save_pretrained``: whether embeddings go along.
            ``"auto"`` compares the vocabulary with that of the base by its name; say True where the
            vocabulary was resized and the base has no name or cannot be reached.

    Raises:
        ModelError: The adapter is not of the form ΔW = B A, or has parts that LoRA cannot hold; or
            PEFT would take another adapter's name for a module's.
        ChainError: The adapter is a chain that is still open.
        SettingsError: The directory is a file or not empty.
        AdapterError: A change is not finite, or what was read back differs by more than 1e-6
            relative to ‖ΔW‖.
    """
    directory = Path(directory)
    model = _checked(model, adapter_name)
    with without_autocast(), torch.no_grad(), draft_of(directory) as draft:
        layers = adapted_layers(model, adapter_name)
        pairs = {name: _factors(name, layer, adapter_name) for name, layer in layers.items()}
        base = _unloaded(model)
        config = _lora_config(model, base, adapter_name, pairs)
        others = _other_tensors(model, adapter_name, pairs, save_embedding_layers)
        write_lora(draft, config, pairs, others)
        difference = _largest_difference(draft, base, pairs)
        notes = serving_notes(draft)
    if config.r > LARGEST_RANK:
        warnings.warn(
            f"the exported rank is {config.r}, but vLLM serves up to {LARGEST_RANK}: merge the "
            "adapter into the model instead, or train with a lower r",
            stacklevel=2,
        )
    return LoraExport(directory, config.r, difference, notes)


def write_lora(
    directory: Path, config: LoraConfig, pairs: Factors, others: dict[str, Tensor]
) -> None:
    """Write the configuration, the factors, all of rank ``config.r``, and the other tensors."""
    config.save_pretrained(str(directory))
    sort_config(directory)
    tensors = dict(others)
    for name, (B, A) in pairs.items():
        missing = config.r - A.shape[-2]
        A, B = nn.functional.pad(A, (0, 0, 0, missing)), nn.functional.pad(B, (0, missing))
        tensors[f"{name}.lora_A.weight"] = packed("A", A)
        tensors[f"{name}.lora_B.weight"] = packed("B", B)
    # Cloned, because safetensors refuses tensors that share memory.
    whole = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in tensors.items()}
    save_file(whole, directory / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})


def closed_adapter(model: nn.Module, adapter_name: str) -> PeftModel:
    """Return the ``PeftModel`` that has all layers of an adapter under the base model's names.

    ``get_peft_model`` on a ``PeftModel`` puts one into another; that is the inner one.

    Raises:
        ModelError: ``model`` is no ``PeftModel``, or no layer carries the adapter.
        ChainError: The adapter is a chain that is still open.
    """
    if not isinstance(model, PeftModel):
        raise ModelError(
            f"an export takes the PeftModel that get_peft_model returns, got {type(model).__name__}"
        )
    while isinstance(inner := model.get_base_model(), PeftModel):
        model = inner
    adapted_layers(model, adapter_name)
    if model.peft_config[adapter_name].peft_type == RankwisePeftType.RANKWISE_CHAIN:
        raise ChainError("the chain is still open, its folds are in the base: finish it first")
    return model


def _checked(model: nn.Module, adapter_name: str) -> PeftModel:
    model = closed_adapter(model, adapter_name)
    # An adapter's own name costs it nothing, so exporting is the way out for one that has such.
    check_adapter_names(model, adapter_names(model), saved=adapter_name)
    config = model.peft_config[adapter_name]
    for field, empty in (("bias", "none"), ("trainable_token_indices", None)):
        value = getattr(config, field, empty)
        if value != empty:
            raise ModelError(
                f"the adapter was made with {field}={value!r}, which a plain LoRA directory cannot "
                "hold: merge_and_unload the model and save it whole"
            )
    return model


def _factors(name: str, layer: BaseTunerLayer, adapter_name: str) -> tuple[Tensor, Tensor]:
    B, A = factors(layer, adapter_name)
    if not (torch.isfinite(B).all() and torch.isfinite(A).all()):
        raise AdapterError(
            f"the change of {name} has values that are not finite in {B.dtype}: nothing is "
            "exported; use an earlier checkpoint, or factors of float32 where float16 overflows"
        )
    return without_excess_rank(B, A)


def _unloaded(model: PeftModel) -> nn.Module:
    """Return the base model without its adapters.

    It shares every tensor with ``model``, and costs no memory beyond its module objects.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    with preserved_state(model):
        return copy.deepcopy(model, shared).unload()


def _lora_config(
    model: PeftModel, base: nn.Module, adapter_name: str, pairs: Factors
) -> LoraConfig:
    config = model.peft_config[adapter_name]
    targets = find_targets(base, _names(model, pairs), parameters=_stack_names(model, pairs))
    rank = max(A.shape[-2] for _, A in pairs.values())
    saved = _modules_to_save(model, adapter_name)
    known = task_type_of(base, has_saved_modules=saved is not None)
    return LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=targets.modules,
        target_parameters=targets.parameters or None,
        exclude_modules=targets.excluded,
        modules_to_save=saved,
        fan_in_fan_out=any(
            getattr(model.get_submodule(name), "fan_in_fan_out", False) for name in pairs
        ),
        task_type=config.task_type or known,  # type: ignore[arg-type]
        base_model_name_or_path=config.base_model_name_or_path,
        revision=config.revision,
        inference_mode=True,
    )


def _names(model: PeftModel, pairs: Factors) -> list[str]:
    """Return the names, in the base model, of the layers that were adapted as modules."""
    stacks = [name for name in pairs if is_of_parameter(model.get_submodule(name))]
    return [name.removeprefix(PREFIX) for name in pairs if name not in stacks]


def _stack_names(model: PeftModel, pairs: Factors) -> list[str]:
    """Return the names, in the base model, of the parameters that were adapted themselves."""
    layers: dict[str, Any] = {name: model.get_submodule(name) for name in pairs}
    return [
        f"{name.removeprefix(PREFIX).replace('.base_layer', '')}.{layer.parameter_name}"
        for name, layer in layers.items()
        if is_of_parameter(layer)
    ]


def _modules_to_save(model: PeftModel, adapter_name: str) -> list[str] | None:
    """Return the names in the config, and those that the config of an inner PeftModel had."""
    names = list(getattr(model.peft_config[adapter_name], "modules_to_save", None) or ())
    saved = [
        name.removeprefix(PREFIX)
        for name, module in model.named_modules()
        if isinstance(module, ModulesToSaveWrapper) and adapter_name in module.modules_to_save
    ]
    return [*names, *(name for name in saved if not name.endswith(tuple(names)))] or None


def _other_tensors(
    model: PeftModel, adapter_name: str, pairs: Factors, save_embedding_layers: SaveEmbeddings
) -> dict[str, Tensor]:
    """Return what PEFT saves with the adapter beside its layers, modules_to_save above all."""
    layers = tuple(f"{name}." for name in pairs)
    saved = get_peft_model_state_dict(
        model, adapter_name=adapter_name, save_embedding_layers=save_embedding_layers
    )
    return {key: tensor for key, tensor in saved.items() if not key.startswith(layers)}


def _largest_difference(draft: Path, base: nn.Module, pairs: Factors) -> float:
    """Read the directory back with PEFT and return the largest relative difference of a ΔW."""
    with preserved_state(base), quiet_peft():
        reread = PeftModel.from_pretrained(base, draft, torch_device=str(device_of(base)))
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
                "back: this PEFT reads it otherwise"
            )
        largest = max(largest, difference)
    return largest
