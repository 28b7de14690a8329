"""Task ``digits``: pretrain a small network on the digits 0-4, adapt it to 5-9.

The 1,797 handwritten digits of 8×8 pixels that scikit-learn carries: no download. The protocol is
RAC-LoRA's MNIST experiment in small (``tasks/pixels.py``). Each half is split 60/20/20 by one seed,
so every method and every run sees the same test rows.

One row: ``features`` is 64 pixels in [0, 1], ``labels`` the digit (minus 5 in the second half).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from sklearn.datasets import load_digits

from rankwise.core.seeds import derive_seed
from rankwise.tasks.pixels import PixelClassifier, PixelTask, of_half, pretrain, pretrained
from rankwise.tasks.splits import Splits, TensorSplit


@dataclass(frozen=True)
class DigitsTask(PixelTask):
    """The data and the pretrained base, determined by ``seed`` and the pretraining settings."""

    seed: int = 0
    pretrain_epochs: int = 30
    pretrain_learning_rate: float = 3e-3

    name = "digits"
    training_rows = 537
    # The three linear layers, named once here: adapters go on all of them.
    target_modules = ("layers.0", "layers.2", "layers.4")

    def splits(self) -> Splits:
        """Return the rows of the digits 5-9, the half that is adapted to."""
        return _split(second=True, seed=self.seed)

    def base_splits(self) -> Splits:
        """Return the rows of the digits 0-4, the half that the base is made of."""
        return _split(second=False, seed=self.seed)

    def base_model(self, cache: Path) -> PixelClassifier:
        """Return the network pretrained on 0-4; trained once, then read from ``cache``."""
        parts = (self.version, self.seed, self.pretrain_epochs, str(self.pretrain_learning_rate))
        file = cache / f"digits-{derive_seed('digits-base', *parts):016x}.safetensors"
        return pretrained(
            file, self.build, self._pretrain, seed=derive_seed(self.seed, "digits-base")
        )

    def build(self) -> PixelClassifier:
        """Return the network, untrained."""
        return PixelClassifier(pixels=64)

    def _pretrain(self, model: PixelClassifier) -> None:
        pretrain(
            model,
            self.base_splits().train,
            epochs=self.pretrain_epochs,
            learning_rate=self.pretrain_learning_rate,
            batch_size=32,
        )


@cache  # rows are read, never changed, and a worker trains on them hundreds of times
def _split(*, second: bool, seed: int) -> Splits:
    pixels, digits = load_digits(return_X_y=True)
    features = torch.tensor(pixels, dtype=torch.float32) / 16
    rows = of_half(features, torch.tensor(digits, dtype=torch.int64), second=second)
    generator = torch.Generator().manual_seed(derive_seed(seed, "digits-split", int(second)))
    order = torch.randperm(len(rows), generator=generator)
    cuts = [int(0.6 * len(order)), int(0.8 * len(order))]
    train, validation, test = (TensorSplit(rows.take(part)) for part in order.tensor_split(cuts))
    return Splits(train, validation, test)
