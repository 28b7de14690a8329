"""Task ``mnist``: RAC-LoRA's experiment as published (Malinovsky et al. 2024, arXiv 2410.08305).

A 784-64-64-5 network with dropout 0.1 is pretrained on the digits 0-4 and adapted to 5-9. Pixels
are normalised with mean 0.1307 and deviation 0.3081; of the 60,000 training images 5,000 are set
aside for validation before the classes are filtered; test is MNIST's own.

Where we differ from the released code (hammoudhasan/RACLora, commit 7354fd2): the split has a seed
of its own instead of the global random state, so that base and adapter see the same one, and the
data are four files read at once, not a data loader with 16 workers and a download.

Data: the four IDX files in ``vision/mnist`` below the data root, gzipped or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from rankwise.core.errors import DataError
from rankwise.core.seeds import derive_seed
from rankwise.tasks.data_root import required_data_root
from rankwise.tasks.idx import read_idx
from rankwise.tasks.pixels import PixelClassifier, PixelTask, of_half, pretrain, pretrained
from rankwise.tasks.splits import Splits

MEAN, DEVIATION = 0.1307, 0.3081
# 5,000 of the 60,000 training images.
VALIDATION_SHARE = 12


@dataclass(frozen=True)
class MnistTask(PixelTask):
    """The data and the pretrained base, determined by ``seed`` and the pretraining settings."""

    data_root: Path | None
    seed: int = 0
    hidden: int = 64
    pretrain_epochs: int = 8
    pretrain_learning_rate: float = 1e-3

    name = "mnist"
    training_rows = 26_949  # at seed 0
    # The three linear layers; between them stand ReLU and dropout.
    target_modules = ("layers.0", "layers.3", "layers.6")

    def splits(self) -> Splits:
        """Return the rows of the digits 5-9, the half that is adapted to."""
        return _read_half(
            required_data_root(self.data_root, task=self.name), self.seed, second=True
        )

    def base_model(self, cache: Path) -> PixelClassifier:
        """Return the network pretrained on 0-4; trained once, then read from ``cache``."""
        rates = (str(self.pretrain_learning_rate), self.pretrain_epochs)
        key = derive_seed("mnist-base", self.version, self.seed, self.hidden, *rates)
        return pretrained(
            cache / f"mnist-{key:016x}.safetensors",
            self.build,
            self._pretrain,
            seed=derive_seed(self.seed, "mnist-base"),
        )

    def build(self) -> PixelClassifier:
        """Return the network, untrained."""
        return PixelClassifier(pixels=28 * 28, hidden=self.hidden, dropout=0.1)

    def _pretrain(self, model: PixelClassifier) -> None:
        pretrain(
            model,
            _read_half(
                required_data_root(self.data_root, task=self.name), self.seed, second=False
            ).train,
            epochs=self.pretrain_epochs,
            learning_rate=self.pretrain_learning_rate,
            batch_size=128,
        )


@lru_cache(maxsize=2)
def _read_half(root: Path, seed: int, *, second: bool) -> Splits:
    """Read one half of the classes; kept, because many runs of a process read the same files."""
    images, digits = _read(root / "vision" / "mnist", "train")
    generator = torch.Generator().manual_seed(derive_seed(seed, "mnist-split"))
    order = torch.randperm(len(digits), generator=generator)
    parts = order.tensor_split([len(order) - len(order) // VALIDATION_SHARE])
    train, validation = (of_half(images[p], digits[p], second=second) for p in parts)
    test = of_half(*_read(root / "vision" / "mnist", "t10k"), second=second)
    return Splits(train, validation, test)


def _read(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    images, images_file = _array(folder, f"{part}-images-idx3-ubyte")
    labels, labels_file = _array(folder, f"{part}-labels-idx1-ubyte")
    if images.shape[1:] != (28, 28):
        raise DataError(f"{images_file} must hold images of 28 × 28, got {tuple(images.shape)}")
    if labels.shape != images.shape[:1]:
        raise DataError(
            f"{labels_file} must hold one label for each of {len(images)} images, "
            f"got {tuple(labels.shape)}"
        )
    if (labels > 9).any():
        row = int((labels > 9).nonzero()[0])
        raise DataError(f"{labels_file}: label {int(labels[row])} of row {row} is no digit")
    return (images.flatten(1).float() / 255 - MEAN) / DEVIATION, labels.long()


def _array(folder: Path, name: str) -> tuple[Tensor, Path]:
    file = folder / name if (folder / name).exists() else folder / f"{name}.gz"
    return read_idx(file), file
