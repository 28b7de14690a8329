"""Facts about the process are facts."""

from __future__ import annotations

import torch

from rankwise.core import runtime


def test_versions_name_what_runs():
    versions = runtime.versions()
    assert versions["torch"] == torch.__version__
    assert {"python", "rankwise", "peft", "transformers"} <= versions.keys()


BLOCK = 64 * 2**20
MOST_OF_IT = 50 * 2**20


def peak_beside_a_block() -> tuple[int, int]:
    """Return the peak as it begins, and after a block was made and freed."""
    runtime.reset_peak_memory()
    before = runtime.peak_memory_bytes()
    block = torch.ones(BLOCK, dtype=torch.uint8)
    del block
    return before, runtime.peak_memory_bytes()


def test_the_peak_counts_memory_that_was_freed_and_a_reset_forgets_it():
    before, peak = peak_beside_a_block()
    assert peak >= before + MOST_OF_IT
    runtime.reset_peak_memory()
    assert runtime.peak_memory_bytes() < before + MOST_OF_IT


def test_the_peak_counts_memory_that_the_process_had_freed_and_kept_before():
    objects = [bytes(5000) for _ in range(20_000)]  # 100 MB, small enough for the heap
    last = bytes(5000)  # the heap shrinks from its end alone, so it keeps what lies before this
    del objects
    before, peak = peak_beside_a_block()
    assert peak >= before + MOST_OF_IT
    del last


def test_the_commit_is_a_hash_or_none():
    commit = runtime.commit()
    assert commit is None or len(commit) == 40
