"""Training steps, folds and both inits in one table. ``make bench`` runs this.

    python benchmarks/all.py [--threads 1] [--tiny]

Each part prints its rows when it is done, and the whole table comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import abm_init
import fold
import training_step
import update_init
from measuring import Row, print_rows, read_options

PARTS = {training_step: 11, fold: 5, abm_init: 2, update_init: 3}  # and their repetitions


def main(words: Sequence[str] | None = None) -> None:
    """Run the parts and print the table."""
    options = read_options(words, 1)
    table: list[Row] = []
    for part, repetitions in PARTS.items():
        often = options if options.is_tiny else replace(options, repetitions=repetitions)
        rows = part.rows(often)
        print_rows(part.__name__, rows)
        table += rows
    print_rows("all", table)


if __name__ == "__main__":
    main()
