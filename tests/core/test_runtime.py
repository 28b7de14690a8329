"""Facts about the process are facts."""

from __future__ import annotations

import torch

from rankwise.core import runtime


def test_versions_name_what_runs():
    versions = runtime.versions()
    assert versions["torch"] == torch.__version__
    assert {"python", "rankwise", "peft", "transformers"} <= versions.keys()


def test_the_peak_counts_memory_that_was_freed_and_a_reset_forgets_it():
    runtime.reset_peak_memory()
    before = runtime.peak_memory_bytes()
    block = torch.ones(64 * 2**20 // 4)
    del block
    assert runtime.peak_memory_bytes() >= before + 50 * 2**20
    runtime.reset_peak_memory()
    assert runtime.peak_memory_bytes() < before + 50 * 2**20


def test_the_commit_is_a_hash_or_none():
    commit = runtime.commit()
    assert commit is None or len(commit) == 40
