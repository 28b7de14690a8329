"""Word problems of MAWPS as prompts and completions, and how many of them each run solves.

    RANKWISE_DATA=FOLDER python benchmarks/word_problems.py --output problems
    python benchmarks/word_problems.py --output problems --solved-by runs/problems

The first writes ``train.jsonl``, ``validation.jsonl`` (100 rows) and ``test.jsonl`` (300), cut by a
seed out of the three files ``arithmetic/mawps/*_equations``: the problems whose equation is x alone
on the left and whose answer is a whole number, each question once. A completion is the equation's
right side and what it comes to, such as ``(22-14)/4 = 2``.

The second lets each run whose test score was read write the first rows of ``test.jsonl``, greedily,
and prints the share whose number after the last = is the right one. What is written is kept beside
the run, so the same command resumes an interrupted one.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from rankwise.core.library_noise import silence_libraries
from rankwise.core.records import write_text
from rankwise.evaluation.generation import Decoding
from rankwise.tasks.data_root import find_data_root, required_data_root
from rankwise.tasks.generation.examples import find_file, read_examples
from rankwise.training.finished import FinishedRun
from rankwise.training.writing import open_writer

FILES = tuple(f"arithmetic/mawps/{split}_equations" for split in ("train", "validation", "test"))
LONGEST = 250
"""Characters of a question."""
HELD_OUT = {"validation": 100, "test": 300}
LONGEST_ANSWER = 32
"""Tokens."""


def problems(root: Path) -> list[dict[str, str]]:
    """Return the problems in file order, each question once."""
    found: dict[str, dict[str, str]] = {}
    for stem in FILES:
        for row in read_examples(find_file(root, stem)):
            question = " ".join(str(row.content["original_text"]).split())
            sides = str(row.content["equation"]).lower().split("=")
            answer = float(str(row.content["ans"]))
            if len(question) > LONGEST or sides[0] != "x" or "x" in sides[1] or answer % 1:
                continue
            written = _outermost_removed(re.sub(r"(\d)\.0\b", r"\1", sides[1]))
            completion = f"{written} = {answer:.0f}"
            found.setdefault(
                question.lower(), {"prompt": f"{question}\n", "completion": completion}
            )
    return list(found.values())


def _outermost_removed(expression: str) -> str:
    """Return the expression without brackets around all of it."""
    depths = list(_depths(expression))
    is_wrapped = expression.startswith("(") and 0 not in depths[:-1]
    return expression[1:-1] if is_wrapped else expression


def _depths(expression: str) -> Iterator[int]:
    depth = 0
    for character in expression:
        depth += (character == "(") - (character == ")")
        yield depth


def main(words: Sequence[str] | None = None) -> None:
    """Write the problems, or say who solves them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("problems"))
    parser.add_argument("--solved-by", type=Path, help="the folder of a comparison")
    parser.add_argument("--rows", type=int, default=100, help="problems that each run is given")
    arguments = parser.parse_args(words)
    if arguments.solved_by is not None:
        _print_solved(arguments.solved_by, arguments.output / "test.jsonl", arguments.rows)
        return
    _cut(problems(required_data_root(find_data_root(None), task="word problems")), arguments.output)


def _cut(rows: list[dict[str, str]], output: Path) -> None:
    """Write the three files."""
    random.Random(0).shuffle(rows)
    held_out = 0
    for split, size in HELD_OUT.items():
        _write(output / f"{split}.jsonl", rows[held_out : held_out + size])
        held_out += size
    _write(output / "train.jsonl", rows[held_out:])


def _write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    print(f"{path}: {len(rows):,} rows")


def _print_solved(comparison: Path, file: Path, count: int) -> None:
    silence_libraries()
    asked = [row.content for row in read_examples(file)][:count]
    prompts, answers = ([str(row[key]) for row in asked] for key in ("prompt", "completion"))
    solved: dict[str, dict[int, float]] = {}
    for folder in sorted(path.parent for path in comparison.glob("runs/*/test.json")):
        run = FinishedRun.open(folder)
        written = _written(run, prompts)
        right = sum(_number(one) == _number(other) for one, other in zip(written, answers))
        title = run.settings.method.title
        solved.setdefault(title, {})[run.settings.seed] = right / len(asked)
    print(f"solved of {len(asked)} problems\n")
    print("| method | seeds | each | mean |\n|---|---|---|---:|")
    for title, by_seed in sorted(solved.items(), key=lambda item: -mean(item[1].values())):
        each = ", ".join(f"{by_seed[seed]:.2f}" for seed in sorted(by_seed))
        seeds = ", ".join(map(str, sorted(by_seed)))
        print(f"| {title} | {seeds} | {each} | {mean(by_seed.values()):.3f} |")


def _written(run: FinishedRun, prompts: list[str]) -> list[str]:
    file = run.folder.answers / f"word-problems-{len(prompts)}.json"
    if not file.exists():
        turns = [[prompt] for prompt in prompts]
        texts = open_writer(run.folder.path).write(turns, Decoding(LONGEST_ANSWER), batch_size=50)
        write_text(file, json.dumps(texts, indent=1))
    written: list[str] = json.loads(file.read_text(encoding="utf-8"))
    return written


def _number(completion: str) -> str:
    return completion.rpartition("=")[2].strip()


if __name__ == "__main__":
    main()
