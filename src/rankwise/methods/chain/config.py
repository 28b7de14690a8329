"""The mark of an open chain: a config whose directory is not mistaken for a finished adapter's.

It stands in the model's ``peft_config`` in the place of the user's config, which is left alone.

While a chain is open its adapter's weights are the current block alone; the blocks before it are in
the ledger. PEFT's ``save_pretrained`` ends in that of the config, which therefore writes the
ledger, and a config file of type ``RANKWISE_CHAIN`` that names neither a rank nor an alpha. In
memory the adapter remains for PEFT of the type that it was, so that a Trainer which resumes loads
its weights as ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast, get_args

from peft import LoraConfig, PeftConfig
from peft.tuners.lora import LoraModel
from torch import nn
from torch.optim.swa_utils import AveragedModel

from rankwise.core.errors import AdapterError, ModelError, SettingsError, nearest_names
from rankwise.functional.sketch_kinds import BOTH, ChainSide, Kind, MomentsAtFold
from rankwise.methods.adapters.adapter_names import adapter_names, check_adapter_names
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.adapters.peft_types import RankwisePeftType, register

# PEFT's other inits take their start out of the base weight, and would do so again at every load.
_INITS_BESIDE_THE_BASE = (True, False, "gaussian", "orthogonal", "eva")

# What the config of one of our adapters and that of a LoRA have in common.
_SHARED = (
    "target_modules exclude_modules target_parameters layers_to_transform layers_pattern "
    "modules_to_save trainable_token_indices bias task_type base_model_name_or_path revision "
    "inference_mode auto_mapping"
)

C = TypeVar("C", bound=PeftConfig)


class OpenChain(Protocol):
    """What the config asks of its chain."""

    model: nn.Module
    adapter_name: str

    def save(self, directory: str) -> None:
        """Write the ledger into ``directory``."""
        ...


class ChainMark(PeftConfig):
    """The config of an adapter whose chain is open; made by :func:`mark` and no constructor."""

    chain: OpenChain

    def __init__(self, **_: Any) -> None:
        raise AdapterError(
            "this adapter is an unfinished chain: its weights are the current block alone and "
            "cannot be loaded or combined as an adapter. Resume its training, or make the chain "
            "anew, load() this directory into it and finish() it; then save the adapter"
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


class ChainConfig(ChainMark, LoraConfig):
    """That of a LoRA."""


class XSChainConfig(ChainMark, LoraXSConfig):
    """That of LoRA-XS."""


class DeloraChainConfig(ChainMark, DeloraConfig):
    """That of DeLoRA."""


@dataclass(frozen=True)
class ChainedKind:
    """What a chain asks of a kind of adapter beside its layers.

    Attributes:
        mark: Its config while the chain is open.
        dropout: The field of its config with the dropout.
        sketch: The kind of the two sketches that a block begins with, where nobody says otherwise;
            None where one factor is a sketch and the other zero.
        has_turns: Whether what trains enters ΔW linearly between sketches, so that its moments can
            be carried from one block to the next.
    """

    mark: type[ChainMark]
    dropout: str
    sketch: Kind | None = None
    has_turns: bool = True


KINDS: dict[type[PeftConfig], ChainedKind] = {
    LoraConfig: ChainedKind(ChainConfig, "lora_dropout"),
    LoraXSConfig: ChainedKind(XSChainConfig, "lora_dropout", "orthonormal"),
    DeloraConfig: ChainedKind(DeloraChainConfig, "module_dropout", "kaiming", has_turns=False),
}
"""The adapters that can be chained, by their configs."""


def check_config(model: nn.Module, adapter_name: str) -> PeftConfig:
    """Return the config of the adapter if a chain can start from it.

    Raises:
        ModelError: It is none of ``KINDS``, its init changes the base weights, the model carries
            further adapters which its end would drop or whose names PEFT mistakes, or is an average
            of others.
    """
    if isinstance(model, AveragedModel):
        raise ModelError(
            "an AveragedModel is a copy that no optimizer trains, and the factors of two blocks "
            "have no mean: make the chain of the model inside, and average within a block"
        )
    configs = cast("dict[str, Any]", getattr(model, "peft_config", {}))
    config = configs.get(adapter_name)
    if config is None or type(config) not in KINDS:
        raise ModelError(
            "a chain needs a model with a peft.LoraConfig, LoraXSConfig or DeloraConfig under the "
            f"name {adapter_name!r}, got {type(config).__name__}: attach one with "
            "peft.get_peft_model"
        )
    if type(config) is not LoraConfig:
        if others := sorted(configs.keys() - {adapter_name}):
            raise ModelError(
                f"the model carries adapter {others[0]!r} too, which would be lost when the chain "
                f"ends and the layers of {type(config).__name__} become those of a plain LoRA: "
                "delete it before, or chain a peft.LoraConfig"
            )
        return config
    if config.init_lora_weights not in _INITS_BESIDE_THE_BASE:
        raise ModelError(
            f"init_lora_weights={config.init_lora_weights!r} changes the base weights, which a "
            "chain must find untouched: use init_lora_weights=True"
        )
    check_adapter_names(model, adapter_names(model))
    return config


def start_of_block(
    config: PeftConfig, side: ChainSide | None, sketch: Kind | None
) -> tuple[ChainSide | None, Kind]:
    """Return the side and the kind of the sketches, an adapter's defaults filled in.

    Raises:
        SettingsError: A side is given where both factors are sketches.
    """
    default = KINDS[type(config)].sketch
    if default is None:
        side = side or "left"
        return side, sketch or ("kaiming" if side in BOTH else "gaussian")
    if side is not None:
        raise SettingsError(
            f"side says which factor of a LoRA is sketched; of {type(config).__name__} both are, "
            f"got {side!r}: leave it out"
        )
    return None, sketch or default


def check_moments(model: nn.Module, adapter_name: str, moments: MomentsAtFold) -> None:
    """Refuse what cannot become of an optimizer's moments at the folds of an adapter's chain.

    Raises:
        SettingsError: There is no such word, or the adapter has no coordinates to carry them into.
    """
    known = get_args(MomentsAtFold)
    if moments not in known:
        raise SettingsError(f"no moments {moments!r}; {nearest_names(str(moments), known)}")
    config = cast("dict[str, Any]", getattr(model, "peft_config", {})).get(adapter_name)
    kind = next((KINDS[each] for each in type(config).__mro__ if each in KINDS), None)
    if moments == "carried" and kind is not None and not kind.has_turns:
        raise SettingsError(
            "moments='carried' needs factors that enter the change linearly, and DeLoRA normalises "
            "its own: use 'reset' or 'kept'"
        )


def mark(config: PeftConfig, chain: OpenChain) -> ChainMark:
    """Return the mark of ``chain``, for a config that :func:`check_config` accepts."""
    return _with_class(KINDS[type(config)].mark, {**vars(config), "chain": chain})


def unmark(config: ChainMark) -> PeftConfig:
    """Return the config behind the mark."""
    fields = {name: value for name, value in vars(config).items() if name != "chain"}
    return _with_class(_plain_class(config), fields)


def finished(config: ChainMark, r: int, *, is_transposed: bool) -> LoraConfig:
    """Return the config of the LoRA of scaling 1 and rank ``r`` that a chain leaves.

    Args:
        config: The chain's mark.
        r: The rank.
        is_transposed: Whether layers store their weights as (in, out).
    """
    if isinstance(config, LoraConfig):
        changed = {"r": r, "lora_alpha": r, "rank_pattern": {}, "alpha_pattern": {}}
        changed |= {"use_rslora": False, "init_lora_weights": True}
        return _with_class(LoraConfig, {**vars(unmark(config)), **changed})
    shared = {name: getattr(config, name) for name in _SHARED.split() if hasattr(config, name)}
    dropout = getattr(config, KINDS[_plain_class(config)].dropout)
    return LoraConfig(
        r=r, lora_alpha=r, lora_dropout=dropout, fan_in_fan_out=is_transposed, **shared
    )


def _plain_class(config: ChainMark) -> type[PeftConfig]:
    return next(plain for plain, kind in KINDS.items() if kind.mark is type(config))


def _with_class(kind: type[C], fields: dict[str, Any]) -> C:
    """Return a config with exactly these fields, as ``copy.copy`` makes one."""
    config = object.__new__(kind)
    vars(config).update(fields)
    return config


register(RankwisePeftType.RANKWISE_CHAIN, ChainConfig, LoraModel)
