"""Local folders of VTAB's form with pictures made up for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 16


def picture(label: int, *, seed: int, side: int = SIDE) -> np.ndarray:
    """Return noise, uint8 of shape (side, side, 3), with a bright square whose place is the label.

    There are four places.
    """
    pixels = np.random.default_rng(seed).integers(0, 60, (side, side, 3), dtype=np.uint8)
    half = side // 2
    top, left = (half * (label % 4 // 2), half * (label % 2))
    pixels[top : top + half, left : left + half] = 240
    return pixels


def write_files(root: Path, task: str, *, classes: int = 4, **rows: int) -> Path:
    """Write image files and ``labels.csv`` for each split: ``write_files(..., train=20)``."""
    for split, count in rows.items():
        folder = root / "vision" / task / split
        folder.mkdir(parents=True)
        lines = ["file,label"]
        for row in range(count):
            label = row % classes
            name = f"{row:03}.png"
            Image.fromarray(picture(label, seed=row)).save(folder / name)
            lines.append(f"{name},{label}")
        (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def write_arrays(
    root: Path, task: str, *, classes: int = 4, grey: bool = True, **rows: int
) -> Path:
    """Write ``arrays.npz`` for each split."""
    for split, count in rows.items():
        folder = root / "vision" / task / split
        folder.mkdir(parents=True)
        labels = np.arange(count) % classes
        images = np.stack([picture(label, seed=row) for row, label in enumerate(labels.tolist())])
        images = images[..., 0] if grey else images
        np.savez(folder / "arrays.npz", images=images, labels=labels)
    return root
