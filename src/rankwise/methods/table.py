"""The named methods: each is a choice on the three axes adapter, init and schedule, no more.

The parts are plain data in the words of the settings (``training/settings/``), so a user changes
any of them in YAML or on the command line, and a new combination needs no code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rankwise.core.errors import SettingsError, nearest_names

Part = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """A named composition; parts that are not named take the defaults of the settings."""

    summary: str
    source: str
    adapter: Part = field(default_factory=lambda: {"kind": "lora"})
    init: Part = field(default_factory=lambda: {"kind": "random"})
    schedule: Part = field(default_factory=lambda: {"kind": "single"})

    def parts(self) -> dict[str, Part]:
        """Return the three parts as settings."""
        return {"adapter": self.adapter, "init": self.init, "schedule": self.schedule}


METHODS: dict[str, Method] = {
    "full": Method(
        "full fine-tuning: every weight trains, no adapter", "-", adapter={"kind": "full"}
    ),
    "lora": Method("one adapter, both factors train", "Hu et al. 2021, arXiv 2106.09685"),
    "asymm-lora": Method(
        "one adapter, one factor a frozen random sketch",
        "Zhu et al. 2024, arXiv 2402.16842",
        schedule={"kind": "frozen", "side": "left", "sketch": "gaussian"},
    ),
    "cola": Method(
        "a chain of adapters, both factors train",
        "Xia et al. 2024, arXiv 2401.04151",
        schedule={"kind": "chain", "side": "both", "sketch": None},
    ),
    "rac-lora": Method(
        "a chain of adapters, one factor a fresh frozen sketch in each",
        "Malinovsky et al. 2024, arXiv 2410.08305",
        schedule={"kind": "chain", "side": "left", "sketch": "gaussian"},
    ),
    "rac-lora-gradient": Method(
        "RAC-LoRA whose sketch is the gradient's own top-r subspace",
        "ours, after arXiv 2410.08305",
        schedule={"kind": "chain", "side": "left", "sketch": "gradient"},
    ),
    "abm-lora": Method(
        "activation boundaries matched to the frozen pretrained model, then LoRA",
        "ABM-LoRA 2025, arXiv 2511.19145",
        init={"kind": "boundary", "reference": "pretrained"},
    ),
    "abm-lora-task": Method(
        "activation boundaries matched to a LoRA trained on the task before, then LoRA",
        "ABM-LoRA 2025, released code",
        init={"kind": "boundary", "reference": "task"},
    ),
    "lora-xs": Method(
        "an r×r core trains between frozen factors from the SVD of the weight",
        "Bałazy et al. 2024, arXiv 2405.17604",
        adapter={"kind": "lora_xs"},
    ),
    "lora-sb": Method(
        "an r×r core trains between frozen factors from the SVD of the first full update",
        "Ponkshe et al. 2024, arXiv 2411.19557",
        adapter={"kind": "lora_xs"},
        init={"kind": "update"},
    ),
    "sb-chain": Method(
        "a chain of r×r cores, each between frozen factors from the gradient at its beginning",
        "ours, after arXiv 2411.19557 and 2410.08305",
        adapter={"kind": "lora_xs"},
        schedule={"kind": "chain", "sketch": "gradient"},
    ),
    "delora": Method(
        "normalised rank-1 terms with a learnable strength",
        "Bini et al. 2025, arXiv 2503.18225",
        adapter={"kind": "delora"},
    ),
    "delora-chain": Method(
        "a chain of DeLoRA adapters, each in fresh directions at its first strength",
        "ours, after arXiv 2503.18225 and 2410.08305",
        adapter={"kind": "delora"},
        schedule={"kind": "chain"},
    ),
    "peft": Method(
        "any method of PEFT: adapter.peft_type and adapter.options name its config",
        "the PEFT library",
        adapter={"kind": "peft"},
    ),
}


def find_method(name: str) -> Method:
    """Look a method up by name.

    Raises:
        SettingsError: There is no such method; the nearest names are suggested.
    """
    if name not in METHODS:
        raise SettingsError(f"method.name: no method {name!r}; {nearest_names(name, METHODS)}")
    return METHODS[name]
