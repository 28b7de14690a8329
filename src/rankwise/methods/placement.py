"""Ranks placed where the gradient asks for them, under a budget of trainable parameters.

With G the gradient of a weight over some batches and σᵢ its singular values, an adapter of rank r
that begins at ΔW = 0 along G's leading directions follows Σ_{i≤r} σᵢ² of ‖G‖² at first order. Ranks
are given one at a time where σ² a parameter is greatest (``functional/placement.py``), and a layer
may get none. What comes out is a config of PEFT: ranks in ``rank_pattern``, and layers without one
left out of ``target_modules``, so that whatever reads PEFT's adapters reads it.

AdaLoRA (Zhang et al. 2023, arXiv 2303.10512) prunes ranks while it trains; EVA (Paischer et al.
2024, arXiv 2410.07170) gives them by the variance of activations, at a fixed number of ranks and
not of parameters. Here layers of different sizes pay what they cost.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import peft
import torch
from peft import LoraConfig, PeftConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from torch import Tensor, nn

from rankwise.capture.batches import collect_batches
from rankwise.capture.gradients import Loss, capture_gradients, linear_shape
from rankwise.capture.losses import summed_loss
from rankwise.core.errors import SettingsError
from rankwise.core.seeds import derive_seed
from rankwise.functional.placement import greedy_ranks
from rankwise.functional.svd import truncated_svd
from rankwise.methods.adapters.delora import DeloraConfig
from rankwise.methods.adapters.factored import FactoredLinear
from rankwise.methods.adapters.lora_xs import LoraXSConfig
from rankwise.methods.adapters.targets import choose_linear_layers, rank_of

Trains = Literal["both", "A", "B"]
Shape = tuple[int, int]
Spectra = Mapping[str, "Spectrum"]


@dataclass(frozen=True)
class Spectrum:
    """Of a layer's gradient: its leading singular values squared, and ‖G‖² in all."""

    squares: list[float]
    total: float


@dataclass(frozen=True)
class RankPlacement:
    """Ranks under a budget.

    Attributes:
        config: The config with these ranks, for ``peft.get_peft_model``.
        ranks: Of each layer that was asked for, zero included.
        parameters: What will train in the adapter.
        captured_share: The share of the squared gradient that adapters along its leading
            directions can follow at first order; 0 where ranks were not placed by a gradient.
    """

    config: Any
    ranks: dict[str, int]
    parameters: int
    captured_share: float


def place_ranks(
    model: nn.Module,
    config: PeftConfig,
    batches: Iterable[Any],
    *,
    budget: int,
    loss: Loss | None = None,
    trains: Trains = "both",
) -> RankPlacement:
    """Place the ranks of an adapter by the gradient of a model that does not carry it yet.

    Args:
        model: The base model; it comes back as it was.
        config: :class:`peft.LoraConfig`, :class:`LoraXSConfig` or :class:`DeloraConfig`. Its ``r``
            and ``rank_pattern`` are the most that layers may get; the scalings of a LoRA stay what
            they are at these.
        batches: Mappings of the model's arguments, or anything that ``loss`` takes.
        budget: Parameters of the adapter that may train, in all layers together. What trains beside
            it (``modules_to_save``) does not count.
        loss: As of :func:`rankwise.initialize`.
        trains: Which factors of a LoRA will: both, or the one beside a frozen sketch.

    Raises:
        SettingsError: The budget is less than the cheapest rank that follows anything, or the
            config is of another kind, has parts of other costs or names no layers.
        ModelError: A named layer is not linear.

    Example:
        >>> from peft import get_peft_model
        >>> base = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        >>> config = LoraConfig(r=2, target_modules=["0", "1"])
        >>> mean = lambda model, x: model(x).sum()
        >>> placement = place_ranks(base, config, [torch.ones(5, 4)], budget=9, loss=mean)
        >>> placement.ranks, placement.parameters
        ({'0': 0, '1': 1}, 5)
        >>> model = get_peft_model(base, placement.config)
    """
    shapes = _target_shapes(model, config)
    spectra = gradient_spectra(
        model,
        shapes,
        collect_batches(batches),
        r=max(rank_of(config, name) for name in shapes),
        loss=loss,
    )
    return placed(model, config, spectra, budget=budget, trains=trains)


def placed_at_random(
    model: nn.Module, config: PeftConfig, *, budget: int, seed: int, trains: Trains = "both"
) -> RankPlacement:
    """Place ranks by no gradient, as a control: the order in which layers get them is drawn."""
    shapes, generator = _target_shapes(model, config), torch.Generator()
    costs = _costs(config, shapes, trains)
    spectra = {}
    for name, each in costs.items():
        generator.manual_seed(derive_seed(seed, name, "rank"))
        # Densities in descending order, since a layer's ranks are given in order.
        drawn = torch.rand(len(each), generator=generator, dtype=torch.float64).sort().values
        squares = [float(d) * c for d, c in zip(drawn.flip(0), each, strict=True)]
        spectra[name] = Spectrum(squares, 0.0)
    return placed(model, config, spectra, budget=budget, trains=trains)


def placed_evenly(
    model: nn.Module, config: PeftConfig, *, budget: int, trains: Trains = "both"
) -> RankPlacement:
    """Place ranks as if all gradients were alike, where there is none, such as in a rehearsal."""
    costs = _costs(config, _target_shapes(model, config), trains)
    spectra = {name: Spectrum([1.0] * len(each), 0.0) for name, each in costs.items()}
    return placed(model, config, spectra, budget=budget, trains=trains)


def gradient_spectra(
    model: nn.Module,
    layers: Collection[str],
    batches: Collection[Any],
    *,
    r: int,
    loss: Loss | None = None,
) -> dict[str, Spectrum]:
    """Return the r leading singular values of each layer's gradient over the batches, squared.

    A layer that takes no part in the loss has none.
    """
    found = {name: Spectrum([], 0.0) for name in layers}

    @torch.no_grad()
    def take(name: str, gradient: Tensor) -> None:
        most = min(r, *gradient.shape)
        generator = torch.Generator(gradient.device).manual_seed(derive_seed(0, name))
        values = truncated_svd(gradient, most, generator=generator)[1].double()
        total = float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2
        found[name] = Spectrum(values.square().tolist(), total)

    capture_gradients(
        model,
        {name: model.get_submodule(name) for name in layers},
        batches=batches,
        consume=take,
        loss=loss or summed_loss,
        consume_none=lambda _: None,
    )
    return found


def placed(
    model: nn.Module, config: PeftConfig, spectra: Spectra, *, budget: int, trains: Trains
) -> RankPlacement:
    """Place ranks by spectra that are known, as :func:`place_ranks` does.

    Raises:
        SettingsError: As of :func:`place_ranks`.
    """
    costs = _costs(config, _target_shapes(model, config), trains)
    names = list(spectra)
    gains = [spectra[name].squares[: len(costs[name])] for name in names]
    prices = [costs[name][: len(gain)] for name, gain in zip(names, gains, strict=True)]
    ranks = dict(zip(names, greedy_ranks(gains, prices, budget=budget), strict=True))
    if not any(ranks.values()):
        least = min((price[0] for price in prices if price), default=0)
        raise SettingsError(
            f"a budget of {budget:,} parameters holds no rank of any layer, the cheapest of those "
            f"that take part in the loss has {least:,}: raise it"
        )
    total = sum(each.total for each in spectra.values())
    followed = sum(sum(spectra[name].squares[:r]) for name, r in ranks.items())
    return RankPlacement(
        _with_ranks(model, config, ranks),
        ranks,
        sum(sum(costs[name][:r]) for name, r in ranks.items()),
        followed / total if total else 0.0,
    )


def _target_shapes(model: nn.Module, config: PeftConfig) -> dict[str, Shape]:
    """Return (out, in) of the layers that a config asks for, by name."""
    _check(config)
    asked = copy.deepcopy(config)
    # No layer is too narrow: it gets less.
    choose_linear_layers(asked, model, FactoredLinear)
    layers = {
        name: module
        for name, module in model.named_modules()
        if name and check_target_module_exists(asked, name)
    }
    if not layers:
        raise SettingsError(
            f"target_modules {config.target_modules!r} fits no layer of "  # type: ignore[attr-defined]
            f"{type(model).__name__}: name layers as model.named_modules() does"
        )
    return {name: linear_shape(name, module) for name, module in layers.items()}


def _check(config: PeftConfig) -> None:
    """Refuse a config whose ranks cannot be placed, or are already."""
    given: Any = config
    if not isinstance(config, (LoraConfig, LoraXSConfig, peft.DeloraConfig)):
        raise SettingsError(
            "ranks are placed for LoraConfig, LoraXSConfig and DeloraConfig, got "
            f"{type(config).__name__}"
        )
    for name in ("target_parameters", "use_dora", "lora_bias"):
        if getattr(given, name, None):
            raise SettingsError(
                f"{name} does not go together with placed ranks, got {getattr(given, name)!r}: "
                "leave it out"
            )
    if given.target_modules is None:
        raise SettingsError("ranks are placed among target_modules: name them, or 'all-linear'")


def _costs(config: PeftConfig, shapes: Mapping[str, Shape], trains: Trains) -> dict[str, list[int]]:
    """Return, by layer, how many parameters its first rank adds, its second, up to the most."""
    cost = _cost_of(config, trains)
    return {
        name: [cost(shape, k) for k in range(1, min(rank_of(config, name), *shape) + 1)]
        for name, shape in shapes.items()
    }


def _cost_of(config: PeftConfig, trains: Trains) -> Callable[[Shape, int], int]:
    """Return what the k-th rank of a layer (out, in) adds."""
    if isinstance(config, LoraXSConfig):
        return lambda _, k: 2 * k - 1  # of the core's k²
    if isinstance(config, peft.DeloraConfig):
        has_strength = not isinstance(config, DeloraConfig) or config.learn_lambda
        return lambda shape, k: sum(shape) + (k == 1 and has_strength)
    sides = {"both": sum, "A": lambda shape: shape[1], "B": lambda shape: shape[0]}
    return lambda shape, _: sides[trains](shape)


def _with_ranks(model: nn.Module, config: PeftConfig, ranks: Mapping[str, int]) -> PeftConfig:
    """Return the config with these ranks, on the layers that have one and no others."""
    new: Any = copy.deepcopy(config)
    kept = {name: r for name, r in ranks.items() if r}
    new.target_modules, new.exclude_modules = set(kept), None
    new.layers_to_transform = new.layers_pattern = None
    # The name of a layer also means others that end in it ...
    named = (name for name, _ in model.named_modules() if name not in kept)
    others = {name for name in named if check_target_module_exists(new, name)}
    new.exclude_modules = others or None
    # ... and so does that in a pattern of ranks, but for ^.
    keys = {
        name: f"^{name}" if any(each.endswith(f".{name}") for each in kept) else name
        for name in kept
    }
    new.rank_pattern = {keys[name]: r for name, r in kept.items()}
    if isinstance(config, LoraConfig):
        new.alpha_pattern = {
            keys[name]: _scaling(config, name) * _divisor(config, r) for name, r in kept.items()
        }
    return new


def _scaling(config: LoraConfig, name: str) -> float:
    """Return the scaling of a layer at the most that it may get."""
    alphas = config.alpha_pattern or {}
    alpha = alphas.get(get_pattern_key(list(alphas), name), config.lora_alpha)
    return alpha / _divisor(config, rank_of(config, name))


def _divisor(config: LoraConfig, r: int) -> float:
    return math.sqrt(r) if config.use_rslora else r
