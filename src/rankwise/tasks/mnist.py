"""Task ``mnist``: RAC-LoRA's experiment as published (Malinovsky et al. 2024, arXiv 2410.08305).

A 784-64-64-5 network with dropout 0.1 is pretrained on the digits 0-4 and adapted to 5-9. Pixels
are normalised with mean 0.1307 and deviation 0.3081; of the 60,000 training images 5,000 are set
aside for validation before the classes are filtered; test is MNIST's own.

Where we differ from the released code (hammoudhasan/RACLora, commit 7354fd2): the split has a seed
of its own instead of the global random state, so that base and adapter see the same one, and the
images are read at once, without a data loader and its 16 workers.

Data: the four IDX files in ``vision/mnist`` below the data root, gzipped or not; without a data
root, the Hub's copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from rankwise.core.seeds import derive_seed
from rankwise.tasks.mnist_images import read_mnist
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
        return _read_half(self.data_root, self.seed, second=True)

    def base_splits(self) -> Splits:
        """Return the rows of the digits 0-4, the half that the base is made of."""
        return _read_half(self.data_root, self.seed, second=False)

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
            self.base_splits().train,
            epochs=self.pretrain_epochs,
            learning_rate=self.pretrain_learning_rate,
            batch_size=128,
        )


@lru_cache(maxsize=2)
def _read_half(root: Path | None, seed: int, *, second: bool) -> Splits:
    """Read one half of the classes; kept, because many runs of a process read the same images."""
    images = read_mnist(root, "train")
    generator = torch.Generator().manual_seed(derive_seed(seed, "mnist-split"))
    order = torch.randperm(len(images.digits), generator=generator)
    parts = order.tensor_split([len(order) - len(order) // VALIDATION_SHARE])
    features = _normalised(images.pixels)
    train, validation = (
        of_half(features[part], images.digits[part], second=second) for part in parts
    )
    unseen = read_mnist(root, "test")
    test = of_half(_normalised(unseen.pixels), unseen.digits, second=second)
    facts = {
        name: {"rows": len(rows), "source": source}
        for name, rows, source in (
            ("train", train, images.source),
            ("validation", validation, images.source),
            ("test", test, unseen.source),
        )
    }
    return Splits(train, validation, test, facts=facts)


def _normalised(pixels: Tensor) -> Tensor:
    return (pixels.flatten(1).float() / 255 - MEAN) / DEVIATION
