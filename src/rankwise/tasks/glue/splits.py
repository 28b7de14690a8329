"""How rows of GLUE are split: pure functions of a number of rows and a seed.

``revisited`` is the rule of RED (Wu et al. 2024, arXiv 2402.15179), which DeLoRA (Bini et al. 2025,
arXiv 2503.18225) takes over: GLUE's test labels are not public and its dev rows are used for
choices, so validation and test are both cut out of dev and training is left alone. We permute as
the released code does (ExplainableML/DeLoRA, commit 82bfcb0, data_utils.py), with NumPy's
``RandomState(seed)``, whose stream is frozen for ever: on the official dev rows, seeds 42-46 give
the very rows of the paper.

Where we differ: of an odd number of rows validation has one more than test, as the paper's table
of sizes has it. The released code agrees for CoLA alone (its halves are swapped); for RTE, 139/138
in the paper, it leaves the middle row to test.
"""

from __future__ import annotations

import numpy as np

from rankwise.core.errors import DataError, SettingsError
from rankwise.core.seeds import derive_seed

_SEEDS = 2**32


def revisited(
    rows: int, seed: int, *, validation_rows: int | None = None, is_swapped: bool = False
) -> tuple[list[int], list[int]]:
    """Cut ``rows`` dev rows into validation and test and return the indices of both.

    Args:
        rows: Number of rows to cut.
        seed: Of the permutation.
        validation_rows: How many rows validation has; None: half, rounded up.
        is_swapped: Validation is the end of the permutation instead of its beginning.

    Raises:
        DataError: No rows are left for test.
        SettingsError: The seed is not in 0..2^32-1.
    """
    size = (rows + 1) // 2 if validation_rows is None else validation_rows
    if size >= rows:
        raise DataError(
            f"protocol 'revisited' takes {size} rows of the dev split for validation and the rest "
            f"for test, got {rows} rows: take the whole dev split, or protocol 'held-out'"
        )
    order = _permutation(rows, seed)
    if is_swapped:
        return order[rows - size :], order[: rows - size]
    return order[:size], order[size:]


def held_out(rows: int, seed: int) -> tuple[list[int], list[int], list[int]]:
    """Cut ``rows`` rows into train, validation and test, a tenth (rounded down) for each of both.

    This is ours, for tasks of which only one split is at hand.

    Raises:
        DataError: There are fewer than 10 rows.
        SettingsError: The seed is not in 0..2^32-1.
    """
    tenth = rows // 10
    if tenth == 0:
        raise DataError(f"protocol 'held-out' needs at least 10 rows, got {rows}")
    order = _permutation(rows, seed)
    return order[2 * tenth :], order[:tenth], order[tenth : 2 * tenth]


def some_rows(available: int, rows: int, seed: int) -> list[int]:
    """Return the indices of ``rows`` rows out of ``available``, drawn by ``seed``, in file order.

    Fewer rows are a part of more rows of the same seed.

    Raises:
        SettingsError: ``rows`` is not in 1..available.
    """
    if not 1 <= rows <= available:
        raise SettingsError(
            f"rows must be between 1 and {available} (the training rows there are), got {rows}"
        )
    return sorted(_permutation(available, derive_seed(seed, "glue-rows") % _SEEDS)[:rows])


def _permutation(rows: int, seed: int) -> list[int]:
    if not 0 <= seed < _SEEDS:
        raise SettingsError(f"split_seed must be between 0 and {_SEEDS - 1}, got {seed}")
    return np.random.RandomState(seed).permutation(rows).tolist()
