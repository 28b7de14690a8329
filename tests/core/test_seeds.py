"""Seeds depend on every part and on nothing else."""

from __future__ import annotations

from rankwise.core.seeds import derive_seed

# The first bytes of SHA-256 of "str:pinned".
PINNED = bytes.fromhex("f17e238c9c28a078")


def test_a_seed_is_the_same_everywhere():
    assert derive_seed(0, "layers.0", 3) == derive_seed(0, "layers.0", 3)
    # A change here would change every published run.
    assert derive_seed("pinned") == int.from_bytes(PINNED, "big") >> 1


def test_every_part_matters():
    seeds = {derive_seed(*parts) for parts in [(0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2)]}
    assert len(seeds) == 4


def test_parts_do_not_run_together():
    assert derive_seed("a", "b") != derive_seed("ab")
    assert derive_seed(1) != derive_seed("1")


def test_a_seed_fits_a_generator():
    assert all(0 <= derive_seed(n) < 2**63 for n in range(100))
