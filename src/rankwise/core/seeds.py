"""Seeds for everything random, derived from names so that no two uses share a stream."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Derive a 63-bit seed from a run seed and the names of its use.

    The same parts give the same seed on every machine and Python version, and parts that differ
    give unrelated streams: ``derive_seed(run_seed, "layers.0.query", block)``.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
