"""Names in a config under which PEFT finds the exported layers, and no others.

PEFT takes a name in ``target_modules`` for the end of longer ones, and on mixture-of-experts models
for that of an expert of Transformers 4, where it ends like one (``gate_proj`` of a dense block,
peft#3711). Layers of the first kind are told apart by ``exclude_modules``, those of the second are
named by their weight, in ``target_parameters``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from peft import LoraConfig
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import nn

from rankwise.core.errors import ModelError


@dataclass(frozen=True)
class Targets:
    """The fields of a ``LoraConfig``; ``excluded`` is a regular expression."""

    modules: list[str]
    parameters: list[str]
    excluded: str | None


def find_targets(
    base: nn.Module, names: Iterable[str], *, parameters: Iterable[str] = ()
) -> Targets:
    """Return the fields that target the layers ``names`` and the ``parameters`` of ``base`` alone.

    Raises:
        ModelError: PEFT has no field that would tell a layer from another one.
    """
    names = sorted(names)
    migrated = {name for name in names if _is_migrated(base, name)}
    modules = [name for name in names if name not in migrated]
    every = [name for name, _ in base.named_modules()]
    named = [*parameters, *(f"{name}.weight" for name in migrated)]
    confused = _confused(named, (name for name, _ in base.named_parameters()))
    if confused:
        raise ModelError(
            f"PEFT would adapt {confused[0]} too, whose name ends like that of an adapted layer: "
            "export the merged weights instead"
        )
    excluded = "|".join(map(re.escape, _confused(modules, every)))
    return Targets(modules, sorted(named), excluded or None)


def _confused(targets: Collection[str], names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that are no target, but end with a dot and one."""
    known = set(targets)
    return sorted(
        name
        for name in names
        if name not in known and any(name[dot.end() :] in known for dot in re.finditer(r"\.", name))
    )


def _is_migrated(base: nn.Module, name: str) -> bool:
    """Say whether PEFT takes the name of a layer for another one of Transformers 4."""
    config = LoraConfig(target_modules=[name])
    try:
        convert_peft_config_for_transformers(config, base, conversions=None)
    except ValueError:
        # It wants the other half of what it takes for a fused expert.
        return True
    return name not in (config.target_modules or ())
