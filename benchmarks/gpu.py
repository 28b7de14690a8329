"""Steps, inits, folds, decoding and compiled steps on a GPU: ours, PEFT's and the frozen limit.

    python benchmarks/gpu.py [--part steps|init|fold|decode|compile|all] [--output runs/gpu]
    python benchmarks/gpu.py --tiny

Llamas of the shapes 1B, 3B and 8B with random weights in bfloat16, all linear layers adapted with
r = 16; steps and folds on 8 of their blocks, 4 × 1024 tokens. All of it takes at most 6 minutes on
one H100 or H200 (``--seconds``). Rows are printed as they come, and what fails is a row that says
so. Every row is kept in ``OUTPUT/gpu.jsonl``: a part that is complete there is shown and not
measured again. ``--tiny`` runs every line on a CPU, with figures that mean nothing.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import peft
import torch
import transformers
from gpu_parts import compiling, decoding, folding, init, steps
from gpu_parts.bench import Bench, guarded
from measuring import Options, Row, print_rows

import rankwise

# The steps last: their smaller shapes, which come in the end, have no targets.
PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "init": init.rows,
    "fold": folding.rows,
    "decode": decoding.rows,
    "compile": compiling.rows,
    "steps": steps.rows,
}


def main(words: Sequence[str] | None = None) -> None:
    """Measure what is asked for and not there yet, and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--repetitions", type=int, default=6, help="turns before the first look")
    parser.add_argument("--seconds", type=float, default=360, help="when to begin nothing new")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: does every line run?")
    read = parser.parse_args(words)
    options = Options(1 if read.tiny else read.repetitions, read.tiny)
    bench = Bench(options, math.inf if read.tiny else read.seconds)
    versions = (rankwise.__version__, torch.__version__, transformers.__version__, peft.__version__)
    card = torch.cuda.get_device_name() if bench.device == "cuda" else "CPU"
    print("{}, rankwise {}, torch {}, transformers {}, PEFT {}".format(card, *versions))
    read.output.mkdir(parents=True, exist_ok=True)
    table: list[Row] = []
    for part in PARTS if read.part == "all" else [read.part]:
        found = list(_kept(read.output / "gpu.jsonl", part, bench))
        table += found
        bench.free()
    if read.part == "all":
        print_rows("all", table)


def _kept(file: Path, part: str, bench: Bench) -> Iterator[Row]:
    """Return the rows of a part from the file, or measure them and write each as it comes."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    mine = [line for line in lines if line["part"] == part]
    if mine and mine[-1]["row"] is None:  # the mark of a part that is complete
        rows = [Row(**line["row"]) for line in mine[:-1]]
        print_rows(f"{part}, measured before", rows)
        return iter(rows)
    left = [line for line in lines if line["part"] != part]
    file.write_text("".join(json.dumps(line) + "\n" for line in left))
    return _measured(file, part, bench)


def _measured(file: Path, part: str, bench: Bench) -> Iterator[Row]:
    rows: list[Row] = []

    def written() -> Iterator[Row]:
        for row in guarded(part, lambda: PARTS[part](bench)):
            with file.open("a") as lines:
                lines.write(json.dumps({"part": part, "row": asdict(row)}) + "\n")
            rows.append(row)
            yield row

    print_rows(part, written())
    if not any(row.ours.startswith("failed") for row in rows):
        with file.open("a") as lines:
            lines.write(json.dumps({"part": part, "row": None}) + "\n")
    yield from rows


if __name__ == "__main__":
    main()
