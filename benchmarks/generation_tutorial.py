"""The generation tutorial in one command: a base from nothing, two adapters, every evaluation.

    RANKWISE_DATA=FOLDER python benchmarks/generation_tutorial.py --output runs/generation [--tiny]

It makes the small Llama of the recipe ``generation-tutorial`` once, adapts it with LoRA and LoRA-SB
of equal size, and lets each answer the benchmarks: greedily, by likelihood, and the dialogues for
their judging tools. It prints the table of docs/results/generation.md. What is done is kept, so the
same command resumes an interrupted one. The scores of so small a model mean nothing; that
every path is real is the point.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rankwise.core.errors import DataError
from rankwise.core.library_noise import silence_libraries
from rankwise.training.answering import GenerationRequest, GenerationResult, answer_benchmark
from rankwise.training.generation_model import opened_for_generation
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe

ARITHMETIC = ("gsm8k", "math", "addsub", "multiarith", "singleeq", "mawps", "aqua", "mathqa")
COMMONSENSE = ("boolq", "piqa", "siqa", "hellaswag", "winogrande", "arc-e", "arc-c", "obqa")
DIALOGUES = ("mt-bench", "alpaca-eval")
METHODS = ({"name": "lora", "r": 2}, {"name": "lora-sb", "r": 32})


TINY = {
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
    parser.add_argument("--steps", type=int, default=300, help="of the base model")
    parser.add_argument("--training-rows", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=100, help="questions of each set")
    parser.add_argument(
        "--new-tokens", type=int, default=48, help="longest answer, but for options"
    )
    parser.add_argument("--tiny", action="store_true", help="toy sizes: does every line run?")
    arguments = parser.parse_args(words)
    silence_libraries()
    begun = time.perf_counter()
    task = {"small": {"steps": arguments.steps}, "rows": arguments.training_rows}
    task = TINY if arguments.tiny else task
    for method in METHODS:
        settings = load_recipe("generation-tutorial", {"method": method, "task": task}).run()
        record = train_run(settings, arguments.output, resume=True)
        losses = [point.validation_loss for point in record.curve]
        print(
            f"\n{method['name']}, r = {method['r']}: {record.trainable_parameters:,} trainable "
            f"parameters, validation loss {losses[0]:.3f} at the start and {losses[-1]:.3f} at the "
            f"end, {record.seconds.total:.0f} s ({record.seconds.build:.0f} s of them "
            "for the base, if it was made here)\n"
        )
        _evaluate(arguments.output / "runs" / settings.name, arguments)
    print(f"\n{time.perf_counter() - begun:.0f} s in all, {time.process_time():.0f} s of computing")


def _evaluate(run: Path, arguments: argparse.Namespace) -> None:
    short = GenerationRequest(rows=arguments.rows, max_new_tokens=arguments.new_tokens)
    plans = [(name, short) for name in (*ARITHMETIC, *DIALOGUES)]
    options = GenerationRequest(rows=arguments.rows)
    for protocol in ("greedy", "likelihood"):
        plans += [(name, replace(options, protocol=protocol)) for name in COMMONSENSE]
    print("| benchmark | protocol | questions | score | as published | no answer | seconds |")
    print("|---|---|---:|---:|---:|---:|---:|")
    with opened_for_generation(run) as model:
        for name, request in plans:
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
