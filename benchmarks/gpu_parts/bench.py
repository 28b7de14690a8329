"""What all parts need: shapes of models, a clock and a peak on the device, rows with failures."""

from __future__ import annotations

import copy
import gc
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from measuring import Options, Row, Step, Target, Turn, repeat_until_decided
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama."""

    name: str
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    blocks: int
    vocabulary: int = 128_256

    def cut(self, blocks: int) -> Shape:
        """The same width with fewer blocks."""
        return replace(self, name=f"{self.name} × {blocks} blocks", blocks=blocks)


SHAPES = (
    Shape("1B", 2048, 8192, 32, 8, 16),
    Shape("3B", 3072, 8192, 24, 8, 28),
    Shape("8B", 4096, 14_336, 32, 8, 32),
)
TINY = Shape("tiny", 32, 48, 2, 1, 2, vocabulary=50)


class OutOfTimeError(Exception):
    """The seconds of this benchmark are spent."""


@dataclass
class Bench:
    """A device, how often to measure on it, and until when."""

    options: Options
    seconds_left: float
    ranks: tuple[int, int] = (16, 64)
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")

    def __post_init__(self) -> None:
        self._end = time.perf_counter() + self.seconds_left
        if self.options.is_tiny:
            self.ranks = (2, 4)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return (TINY,) if self.options.is_tiny else SHAPES

    @property
    def largest(self) -> Shape:
        return self.shapes[-1]

    def check_time(self) -> None:
        """Raise once the seconds are spent."""
        if time.perf_counter() > self._end:
            raise OutOfTimeError("not measured: the time of this benchmark was spent")

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, step: Step) -> float:
        """Time one call on the device."""
        self.synchronize()
        begun = time.perf_counter()
        step()
        self.synchronize()
        return time.perf_counter() - begun

    def peak(self, step: Step) -> float:
        """Return the MiB that a call takes at its peak beyond what was held; 0 on a CPU."""
        gc.collect()
        if self.device != "cuda":
            step()
            return 0.0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        step()
        self.synchronize()
        return (torch.cuda.max_memory_allocated() - held) / MEBIBYTE

    def autocast(self, is_on: bool) -> AbstractContextManager:
        return torch.autocast(self.device, torch.bfloat16) if is_on else nullcontext()

    def model(self, shape: Shape) -> nn.Module:
        """Build a frozen Llama in bfloat16 with random weights, on the device."""
        config = LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=shape.intermediate,
            num_hidden_layers=shape.blocks,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.key_value_heads,
            max_position_embeddings=4096,
        )
        torch.manual_seed(0)
        with torch.device(self.device):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.config.use_cache = False
        return model.train().requires_grad_(False)

    def tokens(self, shape: Shape, rows: int, length: int, seed: int = 1) -> Tensor:
        """Draw a batch of tokens; it is short where sizes are tiny."""
        rows, length = (2, 8) if self.options.is_tiny else (rows, length)
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(shape.vocabulary, (rows, length), generator=generator).to(self.device)

    def free(self) -> None:
        """Give back what is no longer held."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def take_turns(self, steps: Mapping[str, Step], targets: Iterable[Target] = ()) -> list[Turn]:
        """Time all steps in turns until the targets are decided."""
        return repeat_until_decided(
            lambda: {name: self.seconds(step) for name, step in steps.items()},
            self.options,
            targets,
        )


def share(model: nn.Module) -> nn.Module:
    """Copy the modules of a model around the same weights, so that variants need no second one."""
    held = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in held})


def failure(what: str, error: Exception) -> Row:
    """A row for what could not be measured."""
    text = f"failed: {type(error).__name__}: {error}" if str(error) else f"failed: {error!r}"
    if not isinstance(error, OutOfTimeError):
        traceback.print_exception(error, limit=-3)
    return Row(what, " ".join(text.split())[:200].replace("|", "/"), "-", "-", "-", "-", "-")


def guarded(what: str, measure: Callable[[], Iterable[Row]]) -> Iterator[Row]:
    """Yield the rows of a measurement, and a row of its failure where it ends in one."""
    try:
        yield from measure()
    except Exception as error:  # a table with holes is worth more than none
        yield failure(what, error)


def working(steps: Mapping[str, Step]) -> tuple[dict[str, Step], dict[str, Exception]]:
    """Run each step twice to warm up, and tell those that work from those that fail."""
    good: dict[str, Step] = {}
    bad: dict[str, Exception] = {}
    for name, step in steps.items():
        try:
            step()
            step()
            good[name] = step
        except Exception as error:
            bad[name] = error
    return good, bad


def parameters(model: nn.Module) -> list[nn.Parameter]:
    """What trains."""
    return [each for each in model.parameters() if each.requires_grad]


def own_mebibytes(model: nn.Module, weights: Sequence[Any]) -> float:
    """What a variant holds beyond the shared weights: its factors, and Adam's two moments."""
    shared = {id(each) for each in weights}
    held = [each for each in (*model.parameters(), *model.buffers()) if id(each) not in shared]
    moments = 2 * sum(each.nbytes for each in parameters(model))
    return (sum(each.nbytes for each in held) + moments) / MEBIBYTE
