"""How a method becomes federated: what a round begins with, and what its mean is added to.

All strategies average what trains, each client weighted by its number of examples. They differ in
what that does to the weights:

    fed-rac   ΔWᵢ = s B_S Aᵢ     mean(B_S Aᵢ) = B_S mean(Aᵢ)        exact
    fed-sb    ΔWᵢ = s B Rᵢ A     mean(B Rᵢ A) = B mean(Rᵢ) A        exact
    full      ΔWᵢ                mean(ΔWᵢ)                          exact
    fed-it    ΔWᵢ = s Bᵢ Aᵢ      mean(Bᵢ Aᵢ) ≠ mean(Bᵢ) mean(Aᵢ)    not exact

fed-rac is RAC-LoRA's federated form (Malinovsky et al. 2024, arXiv 2410.08305, Algorithm 2): each
round is one block of the chain. Its fresh sketch B_S (or A_S) is shared as a seed, and the mean is
folded. fed-sb is Fed-SB (Singhal et al. 2025, arXiv 2502.15436), fed-it FedIT (Zhang et al. 2023,
arXiv 2305.05644), full FedAvg (McMahan et al. 2017, arXiv 1602.05629).

Server and clients hold the same objects and call :meth:`Strategy.enter` alike, so that they begin a
round with the same weights, bit for bit.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rankwise.core.errors import SettingsError, TrainingError
from rankwise.core.seeds import derive_seed
from rankwise.federated.exchange import Tensors
from rankwise.functional.sketch_kinds import BOTH
from rankwise.methods.adapters.bridge import adapted_layers, factors
from rankwise.methods.adapters.factored_weight import FactoredWeight
from rankwise.methods.adapters.lora_xs import LoraXSLinear
from rankwise.methods.adapters.peft_types import current_names
from rankwise.methods.chain.chain import Chain
from rankwise.methods.chain.layer import OpenedLayer
from rankwise.training.settings.method import MethodSettings
from rankwise.training.settings.schedules import ChainSchedule


class Strategy(ABC):
    """A model in the state of a round, at the server or at a client."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @abstractmethod
    def enter(self, tensors: Mapping[str, Tensor], round_number: int) -> None:
        """Bring the model to the beginning of a round, from the state before it; 1 is the first."""

    @abstractmethod
    def entries(self, mean: Mapping[str, Tensor], round_number: int) -> Tensors:
        """Return what joins the state when ``mean`` is the outcome of a round."""

    def start_entries(self) -> Tensors:
        """Return what the start put into the adapter and no seed gives back; empty for most."""
        return {}

    def entries_after(self, rounds: int) -> Tensors:
        """Return a state after ``rounds`` rounds: its names, shapes and dtypes, and any values."""
        state, trained = self.start_entries(), self.trained()
        for number in range(1, rounds + 1):
            state |= self.entries(trained, number)
        return state

    def finish(self) -> None:
        """Leave a plain adapter, or the weights, in the model: it enters no round any more."""
        return

    def trained(self) -> Tensors:
        """Return a copy of what trains, by the names of the parameters: what a client sends up."""
        return {name: each.detach().clone() for name, each in self._trainable().items()}

    @torch.no_grad()
    def changes(self, *states: Mapping[str, Tensor]) -> list[Tensors]:
        """Return the change (float64) of each weight from the present state to each of ``states``.

        These are such as :meth:`trained` returns; the model stays as it is.
        """
        before, found = self._products(), []
        for state in states:
            with self.holding(state):
                after = self._products()
            found.append({name: after[name] - before[name] for name in before})
        return found

    @contextlib.contextmanager
    def holding(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """Let the model be as if ``tensors`` had been trained, and afterwards as it was."""
        present = self.trained()
        self._write(tensors)
        try:
            yield
        finally:
            self._write(present)

    def _trainable(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def _write(self, tensors: Mapping[str, Tensor]) -> None:
        values = current_names(tensors)
        for name, parameter in self._trainable().items():
            parameter.copy_(values[name])

    def _products(self) -> Tensors:
        """Return what is added to each weight, dense, and what trains without an adapter."""
        layers = self._layers()
        # What lies in a layer with an adapter is the adapter's: the weight below does not train.
        outside = {
            name: parameter.detach().double().clone()
            for name, parameter in self._trainable().items()
            if not any(name.startswith(f"{layer}.") for layer in layers)
        }
        return outside | {name: _product(layer) for name, layer in layers.items()}

    def _layers(self) -> dict[str, BaseTunerLayer]:
        return adapted_layers(self.model)


class Averaged(Strategy):
    """fed-it: what trains is replaced by its mean; with other adapters, too."""

    def enter(self, tensors: Mapping[str, Tensor], round_number: int) -> None:
        """Put the last mean into the model; before the first round there is none."""
        if current := _under("current", tensors):
            self._write(current)

    def entries(self, mean: Mapping[str, Tensor], round_number: int) -> Tensors:
        """Return the mean, in the place of the one before."""
        return _filed("current", mean)


class FullAveraged(Averaged):
    """FedAvg: every weight trains, and is replaced by its mean."""

    def _layers(self) -> dict[str, BaseTunerLayer]:
        return {}


class CoreAveraged(Averaged):
    """fed-sb: the pair B, A is frozen from the start on, the core R is replaced by its mean."""

    def enter(self, tensors: Mapping[str, Tensor], round_number: int) -> None:
        """Put the frozen pair and the last core into the model."""
        pair = _under("frozen", tensors)
        for name, buffer in self._frozen().items():
            if pair:
                buffer.copy_(pair[name])
        super().enter(tensors, round_number)

    def start_entries(self) -> Tensors:
        """Return the pair and the core, which depend on the rows that the start was made from."""
        pair = {name: each.clone() for name, each in self._frozen().items()}
        return _filed("frozen", pair) | _filed("current", self.trained())

    def _frozen(self) -> Tensors:
        return {
            f"{name}.{part}": tensor
            for name, layer in self._layers().items()
            if isinstance(layer, FactoredWeight)
            for part, tensor in layer.frozen_parts("default").items()
        }


class ChainAveraged(Strategy):
    """fed-rac: each round is a block of the chain, with a fresh sketch that the seed gives."""

    def __init__(self, model: nn.Module, schedule: ChainSchedule, *, seed: int) -> None:
        super().__init__(model)
        self.chain = Chain(model, side=schedule.side, sketch=schedule.sketch, seed=seed)

    def enter(self, tensors: Mapping[str, Tensor], round_number: int) -> None:
        """Fold the means of the rounds that the model has not seen yet.

        Raises:
            TrainingError: A round is missing, or the model is past this one.
        """
        if self.chain.folds >= round_number:
            raise TrainingError(
                f"the chain has {self.chain.folds} folds, past round {round_number}"
            )
        while self.chain.folds < round_number - 1:
            finished = self.chain.folds + 1
            mean = _under(f"round-{finished}", tensors)
            if not mean:
                raise TrainingError(f"the mean of round {finished} is missing: send it again")
            self._write(mean)
            self.chain.fold()

    def entries(self, mean: Mapping[str, Tensor], round_number: int) -> Tensors:
        """Return the mean under the number of its round: all of them are in the weights."""
        return _filed(f"round-{round_number}", mean)

    def finish(self) -> None:
        """Make the rounds one plain LoRA of rank Σr beside the restored base."""
        self.chain.finish()


def build_strategy(model: nn.Module, method: MethodSettings, *, seed: int) -> Strategy:
    """Return the federated form of ``method``; a chain draws its sketches by ``seed``.

    Raises:
        SettingsError: The method has no federated form here.
    """
    check_method(method)
    if isinstance(method.schedule, ChainSchedule):
        return ChainAveraged(model, method.schedule, seed=derive_seed(seed, "chain"))
    return _AVERAGED[method.adapter.kind](model)


def check_method(method: MethodSettings) -> None:
    """Refuse a method that has no federated form here.

    Raises:
        SettingsError: It has none.
    """
    schedule, init = method.schedule, method.init.kind
    adapter = method.adapter.kind
    if isinstance(schedule, ChainSchedule) and init == "random" and adapter == "lora":
        if schedule.side in BOTH or schedule.sketch == "gradient":
            raise SettingsError(
                f"method {method.title!r}: a federated chain needs a frozen sketch that a seed "
                f"gives, got schedule.side {schedule.side!r} and schedule.sketch "
                f"{schedule.sketch!r}: use side left or right"
            )
        return
    is_plain = schedule.kind == "single" and adapter in _AVERAGED
    if not is_plain or (adapter == "lora" and init != "random"):
        raise SettingsError(
            f"method {method.title!r} (adapter {adapter}, init {init}, schedule "
            f"{schedule.kind}) has no federated form: choose from {', '.join(FEDERATED_NAMES)}"
        )


_AVERAGED: dict[str, type[Strategy]] = {
    "full": FullAveraged,
    "lora_xs": CoreAveraged,
    "lora": Averaged,
}

FEDERATED_NAMES: dict[str, str] = {
    "rac-lora": "fed-rac",
    "lora-sb": "fed-sb",
    "lora": "fed-it",
    "full": "full",
}
"""What the federated forms of the named methods are called."""


def _product(layer: BaseTunerLayer) -> Tensor:
    if isinstance(layer, OpenedLayer):
        B, A = layer.open_block()
        return layer.history.scaling * B.double() @ A.double()
    if isinstance(layer, LoraXSLinear):
        R, B, A = (part.detach().double() for part in layer.parts("default"))
        return layer.scaling["default"] * B @ R @ A
    B, A = factors(layer, "default")
    return B.detach().double() @ A.detach().double()


def _filed(place: str, tensors: Mapping[str, Tensor]) -> Tensors:
    return {f"{place}/{name}": each for name, each in tensors.items()}


def _under(place: str, tensors: Mapping[str, Tensor]) -> Tensors:
    return {
        name.removeprefix(f"{place}/"): each
        for name, each in tensors.items()
        if name.startswith(f"{place}/")
    }
