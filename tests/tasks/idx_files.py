"""IDX files made up for tests."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import torch


def idx_bytes(*shape: int, data: bytes | None = None, kind: int = 8) -> bytes:
    """Return an IDX file of ``shape`` with ``data``, by default 0, 1, 2, ..."""
    size = int(torch.tensor(shape).prod())
    header = bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return header + (bytes(i % 256 for i in range(size)) if data is None else data)


def write_mnist(root: Path, *, train: int = 240, test: int = 60) -> Path:
    """Write a small MNIST below ``root``; the place of a bright square is the digit."""
    folder = root / "vision" / "mnist"
    folder.mkdir(parents=True)
    for part, rows in (("train", train), ("t10k", test)):
        digits = torch.arange(rows) % 10
        images = torch.randint(0, 60, (rows, 28, 28), generator=torch.Generator().manual_seed(rows))
        for image, digit in zip(images, digits.tolist(), strict=True):
            top, left = divmod(digit, 4)
            image[8 * top : 8 * top + 6, 7 * left : 7 * left + 6] = 250
        pixels = bytes(images.flatten().tolist())
        labels = bytes(digits.tolist())
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(idx_bytes(rows, 28, 28, data=pixels))
        )
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(rows, data=labels))
    return root
