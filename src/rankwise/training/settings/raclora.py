"""RAC-LoRA's original configuration in the words of ours, for the recipe ``rac-mnist``.

After the released code (hammoudhasan/RACLora, commit 52899e3, rac_lora_mnist/config.py). Its A is
the factor on the input's side and its B that on the output's, as ours. Where the two differ:

- its α multiplies the factors as it is, ours is divided by r: the same scaling is α r here;
- its ``kaiming`` reads the fan-in off the wrong axis; ours is PEFT's for A, and mirrored for B;
- it accepts combinations of factors that cannot work, which are refused here with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankwise.core.errors import SettingsError, nearest_names

Tree = dict[str, Any]

_DEFAULTS: dict[str, Any] = {
    "data_dir": None,
    "hidden_size": 64,
    "lr": 2e-4,
    "batch_size": 128,
    "num_workers": 0,
    "max_epochs": 50,
    "lora_rank": 1,
    "lora_alpha": 1.0,
    "lora_train_A": True,
    "lora_train_B": True,
    "lora_init_method_A": "kaiming",
    "lora_init_method_B": "zero",
    "merge_frequency": 1,
}
_INITS = ("zero", "gaussian", "kaiming")


def settings_of_raclora(config: Mapping[str, Any]) -> Tree:
    """Return settings for ``load_recipe("rac-mnist", settings)`` that do what ``config`` asks.

    What is left out has the original's default, but for the data: ``data_dir`` is here a data root
    with ``vision/mnist``, and without it MNIST comes from ``RANKWISE_DATA`` or the Hub.

    Raises:
        SettingsError: A key is unknown, or the combination cannot work.

    Example:
        >>> settings = settings_of_raclora({"lora_train_B": False, "lora_init_method_A": "zero",
        ...                                 "lora_init_method_B": "gaussian"})
        >>> settings["method"]["name"], settings["method"]["schedule"]["side"]
        ('rac-lora', 'left')
    """
    for key in config:
        if key not in _DEFAULTS:
            raise SettingsError(f"RAC-LoRA has no key {key!r}; {nearest_names(key, _DEFAULTS)}")
    given = _DEFAULTS | dict(config)
    if given["num_workers"]:
        raise SettingsError(
            f"num_workers {given['num_workers']!r}: the images lie in memory and no process loads "
            "them: leave it out, or 0"
        )
    name, side, sketch = _chain(given)
    return {
        "task": {"data_root": given["data_dir"], "hidden": given["hidden_size"]},
        "method": {
            "name": name,
            "r": given["lora_rank"],
            "adapter": {"kind": "lora", "alpha": given["lora_alpha"] * given["lora_rank"]},
            "schedule": {
                "kind": "chain",
                "side": side,
                "sketch": sketch,
                "every_epochs": given["merge_frequency"],
                # The original keeps the optimizer's state across a merge.
                "reset_optimizer": False,
            },
        },
        "training": {
            "learning_rate": given["lr"],
            "batch_size": given["batch_size"],
            "epochs": given["max_epochs"],
            "patience": 10,
        },
    }


def _chain(given: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the method, the side of the sketch and its kind."""
    inits = {factor: given[f"lora_init_method_{factor}"] for factor in ("A", "B")}
    trains = {factor: bool(given[f"lora_train_{factor}"]) for factor in ("A", "B")}
    for factor, init in inits.items():
        if init not in _INITS:
            raise SettingsError(
                f"lora_init_method_{factor} must be one of {', '.join(_INITS)}, got {init!r}"
            )
    random = [factor for factor, init in inits.items() if init != "zero"]
    if len(random) == 2:
        raise SettingsError(
            f"both factors begin at random (A {inits['A']}, B {inits['B']}): their product is not "
            "zero, so each new block would change what the model answers: make one of them zero"
        )
    if not random:
        raise SettingsError(
            "both factors begin at zero: the gradient of each is zero as well and nothing can be "
            "learned: make one of them gaussian or kaiming"
        )
    return _side(random[0], trains, inits[random[0]])


def _side(random: str, trains: Mapping[str, bool], init: str) -> tuple[str, str, str]:
    zero = "B" if random == "A" else "A"
    if not any(trains.values()):
        raise SettingsError("both factors are frozen: nothing can be learned: train one of them")
    if not trains[zero]:
        raise SettingsError(
            f"{zero} is zero and frozen: whatever {random} learns is multiplied by zero: train "
            f"{zero}"
        )
    if not trains[random]:
        return "rac-lora", {"B": "left", "A": "right"}[random], init
    if random == "B":
        raise SettingsError(
            "both factors train and A begins at zero: a chain that trains both begins B at zero "
            f"here, as PEFT's LoRA does: use lora_init_method_A {init!r} and lora_init_method_B "
            "'zero', or freeze B"
        )
    return "cola", "both", init
