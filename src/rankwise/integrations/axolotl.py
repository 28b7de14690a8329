"""An Axolotl plugin: ``adapter: rankwise_xs`` and ``adapter: rankwise_delora`` in its YAML.

    plugins: [rankwise.integrations.axolotl.RankwisePlugin]
    adapter: rankwise_xs
    lora_r: 64
    lora_target_linear: true
    rankwise: {delora_lambda: 15.0}     # what Axolotl has no key for

Written for Axolotl 0.19 (``BasePlugin.get_adapter_capabilities`` and ``load_adapter``), which pins
PEFT 0.20 where Rankwise needs 0.21. So the two do not install together, and the plugin is tested
against stand-ins for what it uses of Axolotl.
"""

from __future__ import annotations

from typing import Any

from axolotl.integrations.base import (  # type: ignore[reportMissingImports]
    AdapterCapabilities,
    BasePlugin,
)
from peft import PeftConfig, PeftModel, TaskType, get_peft_model
from pydantic import BaseModel, ConfigDict
from torch import nn

from rankwise.core.errors import SettingsError
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig

ADAPTERS = ("rankwise_xs", "rankwise_delora")
# Keys of Axolotl that mean something to its LoRA alone.
_NOT_TAKEN = (
    "peft_use_dora",
    "peft_init_lora_weights",
    "peft_layer_replication",
    "lora_alpha_pattern",
    "lora_fan_in_fan_out",
)


class RankwiseSettings(BaseModel):
    """What Axolotl has no key for.

    Attributes:
        delora_lambda: DeLoRA's strength at the start.
        init_weights: As in the configs of the adapters.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    delora_lambda: float = 15.0
    init_weights: bool = True


class RankwiseArgs(BaseModel):
    """The block ``rankwise:`` of Axolotl's YAML."""

    rankwise: RankwiseSettings = RankwiseSettings()


class RankwisePlugin(BasePlugin):
    """Attaches our adapters, or loads them from ``lora_model_dir``."""

    def get_input_args(self) -> str:
        """Return where Axolotl finds the model of our keys."""
        return "rankwise.integrations.axolotl.RankwiseArgs"

    def get_adapter_capabilities(self) -> list[AdapterCapabilities]:
        """Return our adapters; Axolotl's own loader makes a LoRA of what is ``lora_like``."""
        return [AdapterCapabilities(name=name, lora_like=False) for name in ADAPTERS]

    def load_adapter(
        self, model: nn.Module, cfg: Any, inference: bool = False, config_only: bool = False
    ) -> tuple[nn.Module | None, PeftConfig] | None:
        """Return the model with its adapter and the adapter's config; None if it is not ours.

        Raises:
            SettingsError: A key of the YAML has no meaning for the adapter.
        """
        if cfg.adapter not in ADAPTERS:
            return None
        config = _config(cfg)
        if config_only:
            return None, config
        if cfg.lora_model_dir:
            loaded = PeftModel.from_pretrained(
                model,  # type: ignore[arg-type]
                cfg.lora_model_dir,
                is_trainable=not inference,
            )
            return loaded, loaded.peft_config["default"]
        return get_peft_model(model, config), config  # type: ignore[arg-type]


def _config(cfg: Any) -> PeftConfig:
    if refused := [key for key in _NOT_TAKEN if cfg.get(key)]:
        raise SettingsError(f"adapter: {cfg.adapter} takes no {', '.join(refused)}: leave it out")
    own = RankwiseSettings.model_validate(dict(cfg.get("rankwise") or {}))
    targets = "all-linear" if cfg.get("lora_target_linear") else cfg.get("lora_target_modules")
    shared = {
        "r": cfg.lora_r,
        "target_modules": targets or [],
        "target_parameters": cfg.get("lora_target_parameters"),
        "modules_to_save": cfg.get("lora_modules_to_save"),
        "exclude_modules": cfg.get("lora_exclude_modules"),
        "layers_to_transform": cfg.get("peft_layers_to_transform"),
        "layers_pattern": cfg.get("peft_layers_pattern"),
        "rank_pattern": cfg.get("lora_rank_pattern") or {},
        "trainable_token_indices": cfg.get("peft_trainable_token_indices"),
        "init_weights": own.init_weights,
        "task_type": TaskType.CAUSAL_LM,
    }
    dropout = cfg.get("lora_dropout") or 0.0
    if cfg.adapter == "rankwise_delora":
        return DeloraConfig(**shared, module_dropout=dropout, delora_lambda=own.delora_lambda)
    return LoraXSConfig(
        **shared,
        lora_dropout=dropout,
        lora_alpha=cfg.get("lora_alpha"),
        use_rslora=bool(cfg.get("peft_use_rslora")),
    )
