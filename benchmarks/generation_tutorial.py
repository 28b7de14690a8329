"""The generation tutorial in one command: one model, two adapters of equal size, what each answers.

    RANKWISE_DATA=FOLDER python benchmarks/generation_tutorial.py --output runs/generation

It adapts the model of the recipe ``generation-tutorial`` with the methods that the recipe compares,
each at the recipe's own rate, and lets the model as it came and each adapter answer the benchmarks:
greedily, by likelihood, and the dialogues for their judging tools. It prints the table of
docs/results/generation.md. What is done is kept, so the same command resumes an interrupted one.

``--quick`` is the recipe's variant: a model made from local texts, whose scores mean nothing; that
every path is real is its point.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from rankwise.comparison.grid import comparison_of
from rankwise.core.errors import DataError
from rankwise.core.library_noise import silence_libraries
from rankwise.training.answering import GenerationRequest, GenerationResult, answer_benchmark
from rankwise.training.build import build_causal_task
from rankwise.training.generation_model import opened_for_generation
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from rankwise.training.settings.run import RunSettings

ARITHMETIC = ("gsm8k", "math", "addsub", "multiarith", "singleeq", "mawps", "aqua", "mathqa")
COMMONSENSE = ("boolq", "piqa", "siqa", "hellaswag", "winogrande", "arc-e", "arc-c", "obqa")
DIALOGUES = ("mt-bench", "alpaca-eval")
EVERY = (*ARITHMETIC, *DIALOGUES, *COMMONSENSE)


TINY: dict[str, Any] = {
    "files": ["commonsense/boolq/train"],
    "small": {"steps": 2, "vocabulary": 300, "width": 32, "blocks": 1, "heads": 2, "length": 16},
    "rows": 8,
    "held_out": 4,
    "max_length": 256,
}


def main(words: Sequence[str] | None = None) -> None:
    """Run what is not done yet, and print what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("runs/generation"))
    parser.add_argument("--rows", type=int, default=100, help="questions of each set")
    parser.add_argument(
        "--new-tokens", type=int, default=128, help="longest answer, but for options"
    )
    parser.add_argument("--tasks", default=",".join(EVERY), help="the sets, with commas between")
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16 autocast")
    parser.add_argument("--quick", action="store_true", help="a model made from local texts")
    parser.add_argument("--tiny", action="store_true", help="toy sizes of it: does every line run?")
    arguments = parser.parse_args(words)
    silence_libraries()
    begun = time.perf_counter()
    is_small = arguments.quick or arguments.tiny
    for number, settings in enumerate(_runs(arguments)):
        if number == 0 and not is_small:
            print("\nas it came\n")
            plain = _as_it_came(settings, arguments.output)
            _evaluate(plain, arguments, {"model": settings.task.model_dump()["model"]})
        record = train_run(settings, arguments.output, resume=True)
        losses = [point.validation_loss for point in record.curve]
        print(
            f"\n{settings.method.name}, r = {settings.method.r}: {record.trainable_parameters:,} "
            f"trainable parameters, validation loss {losses[0]:.3f} at the start and "
            f"{losses[-1]:.3f} at the end, {record.seconds.total:.0f} s\n"
        )
        _evaluate(arguments.output / "runs" / settings.name, arguments)
    print(f"\n{time.perf_counter() - begun:.0f} s in all, {time.process_time():.0f} s of computing")


def _runs(arguments: argparse.Namespace) -> list[RunSettings]:
    """Return a run of each method that the recipe compares."""
    variant = "quick" if arguments.quick or arguments.tiny else None
    given = {
        "task": TINY if arguments.tiny else {},
        "training": {"bf16": True} if arguments.bf16 else {},
    }
    compared = comparison_of(load_recipe("generation-tutorial", given, variant=variant))
    methods = [{"name": method.name, "r": method.r} for method in compared.methods]
    return [
        load_recipe("generation-tutorial", given | {"method": method}, variant=variant).run()
        for method in methods
    ]


def _as_it_came(settings: RunSettings, output: Path) -> Path:
    """Return the folder of a LoRA that changes nothing, which is written if it is not there."""
    folder = output / "as-it-came"
    if not folder.exists():
        model = build_causal_task(settings).base_model(output)
        assert isinstance(model, PreTrainedModel)
        get_peft_model(model, LoraConfig(r=1, target_modules=["q_proj"])).save_pretrained(
            str(folder)
        )
    return folder


def _evaluate(
    run: Path, arguments: argparse.Namespace, options: dict[str, Any] | None = None
) -> None:
    """Print a row for each set and protocol."""
    wanted = arguments.tasks.split(",")
    short = GenerationRequest(rows=arguments.rows, max_new_tokens=arguments.new_tokens)
    plans = [(name, short) for name in (*ARITHMETIC, *DIALOGUES)]
    of_options = GenerationRequest(rows=arguments.rows)
    for protocol in ("greedy", "likelihood"):
        plans += [(name, replace(of_options, protocol=protocol)) for name in COMMONSENSE]
    print("| benchmark | protocol | questions | score | as published | no answer | seconds |")
    print("|---|---|---:|---:|---:|---:|---:|")
    with opened_for_generation(run, options) as model:
        for name, request in plans:
            if name not in wanted:
                continue
            try:
                print(_row(answer_benchmark(model, name, request)), flush=True)
            except DataError as error:
                print(f"| {name} | {request.protocol} | no file: {str(error)[:60]} | | | | |")


def _row(result: GenerationResult) -> str:
    score, published, silent = "answers written", "-", "-"
    if result.grades is not None:
        score, silent = f"{result.grades.accuracy:.3f}", str(result.grades.unparsed)
        if (accuracy := result.grades.accuracy_as_published) is not None:
            published = f"{accuracy:.3f}"
    rows, seconds = f"{result.rows} of {result.available:,}", f"{result.seconds:.0f}"
    cells = (result.name, result.protocol, rows, score, published, silent, seconds)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
