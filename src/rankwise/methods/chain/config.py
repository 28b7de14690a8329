"""The mark of an open chain: a LoRA config whose directory is not mistaken for a plain LoRA.

It stands in the model's ``peft_config`` in the place of the user's config, which is left alone.

While a chain is open its adapter's weights are the current block alone; the blocks before it are in
the ledger. PEFT's ``save_pretrained`` ends in that of the config, which therefore writes the
ledger, and a config file of type ``RANKWISE_CHAIN`` that names neither a rank nor an alpha. In
memory the adapter remains a LoRA for PEFT, so that a Trainer which resumes loads its weights as
ever.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, cast

from peft import LoraConfig
from peft.tuners.lora import LoraModel
from torch import nn
from torch.optim.swa_utils import AveragedModel

from rankwise.core.errors import AdapterError, ModelError
from rankwise.methods.adapters.peft_types import RankwisePeftType, register

# PEFT's other inits take their start out of the base weight, and would do so again at every load.
_INITS_BESIDE_THE_BASE = (True, False, "gaussian", "orthogonal", "eva")

C = TypeVar("C", bound=LoraConfig)


class OpenChain(Protocol):
    """What the config asks of its chain."""

    model: nn.Module
    adapter_name: str

    def save(self, directory: str) -> None:
        """Write the ledger into ``directory``."""
        ...


class ChainConfig(LoraConfig):
    """The config of an adapter whose chain is open; made by :func:`mark` and no constructor."""

    chain: OpenChain

    def __init__(self, **_: Any) -> None:
        raise AdapterError(
            "this adapter is an unfinished chain: its weights are the current block alone and "
            "cannot be loaded or combined as a LoRA. Resume its training, or make the chain anew, "
            "load() this directory into it and finish() it; then save the adapter"
        )

    @property
    def adapter_name(self) -> str:
        """The adapter whose chain this is."""
        return self.chain.adapter_name

    def enter_copy(self, adapter_name: str) -> None:
        """Give a copy of the adapter, for which PEFT has entered this mark, a plain config."""
        configs = cast("dict[str, Any]", self.chain.model.peft_config)
        configs[adapter_name] = unmark(self)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``adapter_config.json`` says: nothing that a loader could take for a LoRA."""
        return {
            "peft_type": RankwisePeftType.RANKWISE_CHAIN.value,
            "base_model_name_or_path": self.base_model_name_or_path,
            "note": "an unfinished Rankwise chain: resume or finish it before use",
        }

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Write the ledger, then the mark."""
        self.chain.save(save_directory)
        super().save_pretrained(save_directory, **kwargs)


def check_config(model: nn.Module, adapter_name: str) -> LoraConfig:
    """Return the config of the adapter if a chain can start from it.

    Raises:
        ModelError: It is no plain ``LoraConfig``, its init changes the base weights, or the model
            is an average of others.
    """
    if isinstance(model, AveragedModel):
        raise ModelError(
            "an AveragedModel is a copy that no optimizer trains, and the factors of two blocks "
            "have no mean: make the chain of the model inside, and average within a block"
        )
    config = cast("dict[str, Any]", getattr(model, "peft_config", {})).get(adapter_name)
    if type(config) is not LoraConfig:
        raise ModelError(
            f"a chain needs a model with a peft.LoraConfig under the name {adapter_name!r}, got "
            f"{type(config).__name__}: attach one with peft.get_peft_model"
        )
    if config.init_lora_weights not in _INITS_BESIDE_THE_BASE:
        raise ModelError(
            f"init_lora_weights={config.init_lora_weights!r} changes the base weights, which a "
            "chain must find untouched: use init_lora_weights=True"
        )
    return config


def mark(config: LoraConfig, chain: OpenChain) -> ChainConfig:
    """Return the mark of ``chain``, for a config that :func:`check_config` accepts."""
    return _with_class(ChainConfig, {**vars(config), "chain": chain})


def unmark(config: ChainConfig, r: int | None = None) -> LoraConfig:
    """Return the plain config behind the mark; with ``r``, that of a LoRA of scaling 1."""
    fields = {name: value for name, value in vars(config).items() if name != "chain"}
    if r is not None:
        fields |= {"r": r, "lora_alpha": r, "rank_pattern": {}, "alpha_pattern": {}}
        fields |= {"use_rslora": False, "init_lora_weights": True}
    return _with_class(LoraConfig, fields)


def _with_class(kind: type[C], fields: dict[str, Any]) -> C:
    """Return a config with exactly these fields, as ``copy.copy`` makes one."""
    config = object.__new__(kind)
    vars(config).update(fields)
    return config


register(RankwisePeftType.RANKWISE_CHAIN, ChainConfig, LoraModel)
