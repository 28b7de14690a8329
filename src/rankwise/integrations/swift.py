"""An ms-swift tuner plugin: ``--tuner_type rankwise_xs`` and ``--tuner_type rankwise_delora``.

    swift sft --external_plugins .../rankwise/integrations/swift.py --tuner_type rankwise_xs \\
        --lora_rank 64 --target_modules all-linear ...

Written for ms-swift 4.6 (``swift.tuner_plugin``: ``PeftTuner`` and ``tuners_map``). That version
takes PEFT below 0.21 and Rankwise needs 0.21, so the two do not install together: the plugin is
tested against stand-ins for what it uses of ms-swift.
"""

from __future__ import annotations

from typing import Any

from peft import get_peft_model
from swift.tuner_plugin import PeftTuner, tuners_map  # type: ignore[reportMissingImports]
from torch import nn

from rankwise.core.errors import SettingsError
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.lora_xs import LoraXSConfig


class RankwiseXSTuner(PeftTuner):
    """Attaches LoRA-XS; saving and loading are PEFT's."""

    @staticmethod
    def prepare_model(args: Any, model: nn.Module) -> nn.Module:
        """Return the model with the adapter that the arguments of ms-swift describe."""
        config = LoraXSConfig(**_shared(args), lora_dropout=_dropout(args))
        return get_peft_model(model, config)  # type: ignore[arg-type]


class RankwiseDeloraTuner(PeftTuner):
    """Attaches DeLoRA; saving and loading are PEFT's."""

    @staticmethod
    def prepare_model(args: Any, model: nn.Module) -> nn.Module:
        """Return the model with the adapter that the arguments of ms-swift describe."""
        config = DeloraConfig(**_shared(args), module_dropout=_dropout(args))
        return get_peft_model(model, config)  # type: ignore[arg-type]


def _shared(args: Any) -> dict[str, Any]:
    targets = args.target_modules
    if targets in (["all-linear"], {"all-linear"}):
        targets = "all-linear"
    elif "all-linear" in targets and not isinstance(targets, str):
        raise SettingsError(
            f"target_modules {sorted(targets)} mixes all-linear with names: give one or the other"
        )
    return {
        "r": args.lora_rank,
        "target_modules": targets,
        "target_parameters": getattr(args, "target_parameters", None),
        "modules_to_save": getattr(args, "modules_to_save", None) or None,
        "task_type": "CAUSAL_LM",
    }


def _dropout(args: Any) -> float:
    # ms-swift sets 0.05 by itself, which has no place where weights are changed.
    return 0.0 if getattr(args, "target_parameters", None) else args.lora_dropout


tuners_map.update(rankwise_xs=RankwiseXSTuner, rankwise_delora=RankwiseDeloraTuner)
