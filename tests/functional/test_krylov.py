"""The search with many narrow blocks: what it costs, and what it leaves to others."""

from __future__ import annotations

import torch

from rankwise.functional.krylov import search_triplets

from .matrices import SIDE, random_matrix


def search(matrix, r, **options):
    options = {"width": r + 10, "iterations": 32, **options}
    found = search_triplets(matrix, r, generator=torch.Generator().manual_seed(0), **options)
    assert found is not None
    return found


def test_long_columns_are_reflected_twice_at_most(monkeypatch):
    calls = []
    qr = torch.linalg.qr
    monkeypatch.setattr(torch.linalg, "qr", lambda X: calls.append(X.shape) or qr(X))
    search(random_matrix(2 * SIDE, SIDE, seed=6).sign().float(), 32)
    assert len(calls) == 2  # the first block, and the images of the triplets
    assert calls[1] == (SIDE, 42)  # of the leading directions, not of the whole basis


def test_what_is_not_found_in_time_is_not_returned():
    matrix = random_matrix(SIDE, SIDE, seed=7).sign().float()
    generator = torch.Generator()
    assert search_triplets(matrix, 4, width=14, iterations=1, generator=generator) is None
