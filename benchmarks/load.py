"""What much of everything costs: records, layers, folds, adapters, and comparisons at once.

    python benchmarks/load.py [--part records] [--tiny]

Each row is measured once: processor seconds (of comparisons at once those on the wall), and the
peak of memory: of a command that of its process, of all else what comes on top of what a fresh
process held before it. The records are those that ``rankwise compare digits`` would have left with
more seeds, from an engine that trains nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from measuring import MEGABYTE, Options, Step, measured, peak_beyond, seconds
from peft import LoraConfig
from torch import nn

from rankwise.cli import main as command_line
from rankwise.cli.overrides import option_words
from rankwise.comparison import sweep as sweeping
from rankwise.core.runtime import peak_memory_bytes
from rankwise.export.lora import export_lora
from rankwise.methods.chain.chain import Chain
from rankwise.methods.inits.initialize import initialize
from rankwise.methods.inits.update import UpdateApproximation
from rankwise.training.folder import RunFolder
from rankwise.training.records import (
    CurvePoint,
    RetentionRecord,
    RunRecord,
    Seconds,
    TestResult,
    identity_of,
)
from rankwise.training.settings.recipe import load_recipe
from rankwise.training.settings.run import RunSettings

SIDE, RANK = 64, 4


@dataclass(frozen=True)
class Load:
    """What one thing cost.

    Attributes:
        what: What was done, with its size.
        seconds: Of the processor, or on the wall.
        bytes: Of memory at the peak, or of a file.
        most_seconds: What it may take at most; None: nobody said.
        most_bytes: The same of memory.
    """

    what: str
    seconds: float
    bytes: float
    most_seconds: float | None = None
    most_bytes: float | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the cells of its row."""
        bounds = [
            (self.seconds, self.most_seconds, "{:g} s", 1),
            (self.bytes, self.most_bytes, "{:g} MB", MEGABYTE),
        ]
        known = [each for each in bounds if each[1] is not None]
        target = ", ".join(form.format(most / unit) for _, most, form, unit in known if most)
        met = all(value <= most for value, most, *_ in known if most)
        return (
            self.what,
            f"{self.seconds:.3g}",
            f"{self.bytes / MEGABYTE:.3g} MB" if self.bytes else "-",
            f"≤ {target}" if known else "-",
            "-" if not known else "yes" if met else "no",
        )


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=tuple(PARTS), action="append")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: does every line run?")
    read = parser.parse_args(words)
    options = Options(1, read.tiny)
    heads = ("what", "seconds", "memory", "target", "met")
    print(f"\nload\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for part in read.part or PARTS:
        for load in PARTS[part](options):
            print(f"| {' | '.join(load.cells())} |", flush=True)


def _records(options: Options) -> Iterator[Load]:
    """A finished comparison of thousands of runs: resumed, and reported again."""
    seeds = list(range(2 if options.is_tiny else 21))
    compared: dict[str, Any] = {"seeds": seeds, "sweep_seeds": len(seeds)}
    if options.is_tiny:
        compared |= {"methods": ["lora"], "widenings": 0}
    overrides = {"compare": compared}
    with tempfile.TemporaryDirectory() as name:
        words = ["compare", "digits", *option_words(overrides), "--workers", "1", "--output", name]
        runs = write_records(overrides, Path(name))
        for what, command, most in (("resume", words, 20), ("report", ["report", name], 10)):
            taken, peak = run_command(command, options)
            bounds = {"most_seconds": most, "most_bytes": 1000 * MEGABYTE}
            yield Load(f"{what} a comparison of {runs} finished runs", taken, peak, **bounds)


def write_records(overrides: dict[str, Any], output: Path) -> int:
    """Leave in ``output`` what a comparison of digits leaves; return how many runs it made."""
    recipe = load_recipe("digits", overrides)
    engine = MadeUpEngine()
    sweeps = sweeping.sweep(recipe, output, engine=engine, watcher=Nobody())
    sweeping.read_test(sweeps, output, engine=engine)
    return sum(len(each.records) for each in sweeps)


class MadeUpEngine:
    """Trains nothing, and leaves the records that a run would leave."""

    def run(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Write a record, or a score on test, with a score that a formula gives."""
        for settings, output in calls:
            if isinstance(settings, RunSettings):
                yield _test(settings, output)
            else:
                yield [_record(each, output) for each in settings]


class Nobody:
    """Is told how far a comparison is, and says nothing."""

    def plan(self, runs: int) -> None: ...

    def done(self, record: object) -> None: ...

    def widened(self, method: str, rate: float) -> None: ...


def _score(settings: RunSettings, step: int) -> float:
    """Return a score that is best at a rate of 0.01, grows with the steps and differs by seed."""
    off = abs(math.log10(settings.training.learning_rate / 0.01))
    return 0.9 - 0.1 * off - 0.1 / (step + 1) + 0.001 * (settings.seed % 5)


def _record(settings: RunSettings, output: Path) -> RunRecord:
    curve = tuple(
        CurvePoint(
            step=17 * epoch,
            train_loss=1 / (epoch + 1),
            validation_loss=1 / (epoch + 1),
            validation_score=_score(settings, epoch),
        )
        for epoch in range(settings.training.epochs + 1)
    )
    record = RunRecord(
        run=settings.name,
        method=identity_of(settings.method),
        seed=settings.seed,
        learning_rate=settings.training.learning_rate,
        settings=settings.model_dump(mode="json"),
        metric="accuracy",
        trainable_parameters=300,
        stored_bytes=1200,
        score_validation=curve[-1].validation_score,
        curve=curve,
        seconds=Seconds(train=1.0, total=1.0),
    )
    record.write(RunFolder.below(output, settings.name).record)
    return record


def _test(settings: RunSettings, output: Path) -> TestResult:
    score, rows = _score(settings, settings.training.epochs), 180
    found = TestResult(
        run=settings.name,
        score_test=score,
        scores={"accuracy": score},
        predictions=tuple(5 * (row > rows * score) for row in range(rows)),
        labels=(0,) * rows,
    )
    found.write(RunFolder.below(output, settings.name).test)
    lost = RetentionRecord(
        run=settings.name, measure="made up", before=0.9, after=0.8, forgetting=0.1
    )
    lost.write(RunFolder.below(output, settings.name).retention)
    return found


_COMMAND = """
import sys, time
from rankwise.cli.main import main

code = main(sys.argv[1:])
print(time.process_time())
(peak,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(1024 * int(peak.split()[1]))
sys.exit(code)
"""


def run_command(words: list[str], options: Options) -> tuple[float, int]:
    """Run a command of ``rankwise`` as a user does; return its seconds and its peak."""
    if options.is_tiny:
        with contextlib.redirect_stdout(io.StringIO()):
            taken = seconds(lambda: command_line.main(words))
        return taken, peak_memory_bytes()
    command = [sys.executable, "-c", _COMMAND, *words]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    *_, taken, peak = printed.split()
    return float(taken), int(peak)


def _layers(options: Options) -> Iterator[Load]:
    """A model of many adapted layers: an init, a chain, a fold and an export."""
    number = 4 if options.is_tiny else 500
    for what, taken, peak in measured(options, adapt_layers, number):
        yield Load(f"{what}, {number} layers", taken, peak)


def adapt_layers(number: int) -> list[tuple[str, float, int]]:
    """Adapt ``number`` linear layers in each way, one after another."""
    batches = [{"x": torch.randn(32, SIDE), "labels": torch.randn(32, SIDE)}]
    found = []

    def step(what: str, act: Step) -> None:
        found.append((what, *_cost(act)))

    model = _adapted(number)
    step("update init", lambda: initialize(model, UpdateApproximation(lr=1e-3), batches))
    chains: list[Chain] = []
    step("open a chain", lambda: chains.append(Chain(model, side="left")))
    step("fold it", lambda: chains[0].fold())
    step("finish it", lambda: chains[0].finish())
    with tempfile.TemporaryDirectory() as folder:
        step("export, reloaded and compared", lambda: export_lora(model, Path(folder) / "out"))
    return found


def _folds(options: Options) -> Iterator[Load]:
    """A chain of many blocks over the matrices of a small encoder."""
    number = 3 if options.is_tiny else 200
    for what, taken, size in measured(options, fold_often, number):
        yield Load(what, taken, size)


def fold_often(number: int) -> list[tuple[str, float, int]]:
    """Fold ``number`` times; return the first and the last fold, the ledger and its reading."""
    model = _adapted(12, side=256)
    chain = Chain(model, side="left")
    folds = []
    for _ in range(number):
        for layer in model.modules():
            if hasattr(layer, "lora_A"):
                nn.init.normal_(layer.lora_A["default"].weight, std=1e-3)
        folds.append(_cost(chain.fold))
    with tempfile.TemporaryDirectory() as name:
        saved = _cost(lambda: chain.save(name))
        (ledger,) = Path(name).glob("*.safetensors")
        size = ledger.stat().st_size / MEGABYTE
        again = _adapted(12, side=256)
        opened = Chain(again, side="left")
        read = _cost(lambda: opened.load(name))
    return [
        (f"fold 1 of {number}", *folds[0]),
        (f"fold {number} of {number}", *folds[-1]),
        (f"save its ledger of {size:.1f} MB", *saved),
        ("read the ledger", *read),
    ]


def _adapters(options: Options) -> Iterator[Load]:
    """Many adapters on one model."""
    number = 3 if options.is_tiny else 64
    for what, taken, peak in measured(options, attach_adapters, number):
        yield Load(what, taken, peak)


def attach_adapters(number: int) -> list[tuple[str, float, int]]:
    """Attach ``number`` LoRA-XS adapters, use each once, save them all and load them again."""
    import rankwise

    config = rankwise.LoraXSConfig(r=RANK, target_modules="all-linear")
    model = peft.get_peft_model(_stack(12, 256), config, adapter_name="adapter-0")
    names = [f"adapter-{each}" for each in range(number)]
    x = torch.randn(8, 256)

    def use_all() -> None:
        for name in names:
            model.set_adapter(name)
            model(x)

    found = [
        (
            f"attach adapters 2 to {number}",
            *_cost(lambda: [model.add_adapter(name, config) for name in names[1:]]),
        ),
        (f"use each of {number} adapters", *_cost(use_all)),
    ]
    with tempfile.TemporaryDirectory() as folder:
        found.append((f"save {number} adapters", *_cost(lambda: model.save_pretrained(folder))))
        again = peft.get_peft_model(_stack(12, 256), config, adapter_name="adapter-0")

        def load_all() -> None:
            for name in names[1:]:
                again.load_adapter(f"{folder}/{name}", name)

        found.append((f"load {number - 1} of them", *_cost(load_all)))
    return found


def _at_once(options: Options) -> Iterator[Load]:
    """Comparisons that are begun at once: in a folder each, and all in one."""
    number = 2 if options.is_tiny else 8
    for what, folders in (("a folder each", number), ("one folder", 1)):
        begun = time.perf_counter()
        codes = compare_at_once(number, folders)
        done, refused = codes.count(0), codes.count(2)
        assert done >= folders, codes
        assert done + refused == number, codes
        said = f"{number} comparisons at once, {what}: {done} done, {refused} refused"
        yield Load(said, time.perf_counter() - begun, 0)


def compare_at_once(number: int, folders: int) -> list[int]:
    """Begin ``number`` small comparisons in ``folders`` folders; return their exit codes."""
    words = [
        sys.executable, "-m", "rankwise", "compare", "digits", "--compare.methods=lora",
        "--compare.learning_rates=[0.01]", "--compare.widenings=0", "--compare.seeds=[0]",
        "--compare.sweep_seeds=1", "--training.epochs=1", "--task.pretrain_epochs=1",
        "--workers", "1",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        processes = [
            subprocess.Popen(
                [*words, "--output", f"{name}/{each % folders}"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for each in range(number)
        ]
        codes = [process.wait() for process in processes]
        assert len(list(Path(name).glob("*/summary.json"))) == folders
    return codes


PARTS = {
    "records": _records,
    "layers": _layers,
    "folds": _folds,
    "adapters": _adapters,
    "at_once": _at_once,
}


def _cost(step: Step) -> tuple[float, int]:
    """Return the seconds of a step, and its peak beyond what was held before."""
    peaks: list[int] = []
    taken = seconds(lambda: peaks.append(peak_beyond(step)))
    return taken, peaks[0]


def _stack(number: int, side: int) -> nn.Module:
    torch.manual_seed(0)
    return Stack(number, side)


def _adapted(number: int, side: int = SIDE) -> Any:
    return peft.get_peft_model(_stack(number, side), LoraConfig(r=RANK, target_modules=r".*\d"))


class Stack(nn.Module):
    """Linear layers one behind another, each added to what it takes."""

    def __init__(self, number: int, side: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(side, side, bias=False) for _ in range(number))

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        """Return the outputs, and a mean loss as a model of Transformers does."""
        for layer in self.layers:
            x = x + layer(x) / len(self.layers)
        labels = torch.zeros_like(x) if labels is None else labels
        return {"loss": nn.functional.mse_loss(x, labels), "logits": x}


if __name__ == "__main__":
    main()
