"""All benchmarks but the grid of digits and the exports: one table. ``make bench`` runs this.

    python benchmarks/all.py [--threads 1]

Each part prints its rows when it is done, and the whole table comes last.
"""

from __future__ import annotations

import abm_init
import fold
import training_step
import update_init
from measuring import arguments, print_rows

PARTS = {training_step: 11, fold: 5, abm_init: 2, update_init: 3}  # and their repetitions


def main() -> None:
    """Run the parts and print the table."""
    arguments(1)
    table = []
    for part, repetitions in PARTS.items():
        rows = part.rows(repetitions)
        print_rows(part.__name__, rows)
        table += rows
    print_rows("all", table)


if __name__ == "__main__":
    main()
