"""RAC-LoRA's original configuration in the words of ours, for the recipe ``rac-mnist``.

After the released code (hammoudhasan/RACLora, commit 52899e3, rac_lora_mnist/config.py). Its A is
the factor on the input's side and its B that on the output's, as ours. Where the two differ:

- its α multiplies the factors as it is, ours is divided by r: the same scaling is α r here;
- its ``kaiming`` reads the fan-in off the wrong axis; ours is PEFT's for A, and mirrored for B;
- at a rank above a layer's sides it adds columns that can do nothing more: here the last layer
  has rank 5, the number of its outputs, with the same scaling;
- it accepts combinations of factors that cannot work, which are refused here with the reason.

    both train, merged      COLA            one trains, merged      RAC-LoRA
    both train, never       LoRA            one trains, never       AsymmLoRA
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from rankwise.core.errors import SettingsError, nearest_names
from rankwise.functional.sketch_kinds import BOTH
from rankwise.training.settings.base import Settings, setting

Tree = dict[str, Any]

FactorInit = Literal["zero", "gaussian", "kaiming"]
_OUTPUTS, _LAST = 5, "layers.6"
_TRAINED_OR_FROZEN = "whether the factor on the layer's {} trains"
_BEGINS = "how the factor on the layer's {} begins"


class RacLoraSettings(Settings):
    """RAC-LoRA's own configuration, under the names of its config.py and with its defaults."""

    data_dir: str | None = setting(None, "folder with vision/mnist; null: as task.data_root")
    hidden_size: PositiveInt = setting(64, "width of the two hidden layers", unit="units")
    lr: PositiveFloat = setting(2e-4, "learning rate", unit="per step")
    batch_size: PositiveInt = setting(128, "rows of a batch", unit="rows")
    num_workers: NonNegativeInt = setting(
        0, "processes that load images; here none do", unit="processes"
    )
    max_epochs: PositiveInt = setting(50, "most passes over the training rows", unit="epochs")
    lora_rank: PositiveInt = setting(1, "rank of the adapter", unit="rank")
    lora_alpha: PositiveFloat = setting(
        1.0, "scales B A as it is, not divided by the rank", unit="number"
    )
    lora_train_A: bool = setting(True, _TRAINED_OR_FROZEN.format("input"))  # noqa: N815
    lora_train_B: bool = setting(True, _TRAINED_OR_FROZEN.format("output"))  # noqa: N815
    lora_init_method_A: FactorInit = setting("kaiming", _BEGINS.format("input"))  # noqa: N815
    lora_init_method_B: FactorInit = setting("zero", _BEGINS.format("output"))  # noqa: N815
    merge_frequency: NonNegativeInt = setting(
        1, "epochs between merges into the weights; 0: never", unit="epochs"
    )


_DEFAULTS: dict[str, Any] = RacLoraSettings().model_dump()
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
    rank, (side, sketch) = given["lora_rank"], _sketch(given)
    name, schedule = _schedule(side, sketch, given["merge_frequency"])
    adapter: Tree = {"kind": "lora", "alpha": given["lora_alpha"] * rank}
    if rank > _OUTPUTS:
        adapter["rank_pattern"] = {_LAST: _OUTPUTS}
    return {
        "task": {"hidden": given["hidden_size"]}
        | ({"data_root": given["data_dir"]} if given["data_dir"] else {}),
        "method": {
            "name": name,
            "r": rank,
            "adapter": adapter,
            "init": {"kind": "random"},
            "schedule": schedule,
        },
        "training": {
            "learning_rate": given["lr"],
            "batch_size": given["batch_size"],
            "epochs": given["max_epochs"],
            "patience": 10,
        },
    }


def _schedule(side: str, sketch: str, merge_frequency: int) -> tuple[str, Tree]:
    """Return the method that this is, and its schedule."""
    trains_both = side in BOTH
    if not merge_frequency and not trains_both:
        return "asymm-lora", {"kind": "frozen", "side": side, "sketch": sketch}
    chain = {"kind": "chain", "side": side, "sketch": sketch}
    if not merge_frequency:
        return "lora", chain | {"every_epochs": None}
    # The original keeps the optimizer's state across a merge.
    merged = chain | {"every_epochs": merge_frequency, "reset_optimizer": False}
    return ("cola" if trains_both else "rac-lora"), merged


def _sketch(given: Mapping[str, Any]) -> tuple[str, str]:
    """Return the side of what begins at random, and its kind."""
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


def _side(random: str, trains: Mapping[str, bool], init: str) -> tuple[str, str]:
    zero = "B" if random == "A" else "A"
    if not any(trains.values()):
        raise SettingsError("both factors are frozen: nothing can be learned: train one of them")
    if not trains[zero]:
        raise SettingsError(
            f"{zero} is zero and frozen: whatever {random} learns is multiplied by zero: train "
            f"{zero}"
        )
    side = {"B": "left", "A": "right"}[random]
    if trains[random]:
        side = {"left": "both-left", "right": "both"}[side]
    return side, init
