"""Task ``digits``: pretrain a small network on the digits 0-4, adapt it to 5-9.

The 1,797 handwritten digits of 8×8 pixels that scikit-learn carries: no download. The protocol is
RAC-LoRA's MNIST experiment (Malinovsky et al. 2024, arXiv 2410.08305, Section 6) in small. Each
half is split 60/20/20 by one seed, so every method and every run sees the same test rows.

One row: ``features`` is 64 pixels in [0, 1], ``labels`` the digit (minus 5 in the second half).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

from rankwise.core.seeds import derive_seed
from rankwise.tasks.splits import Splits, TensorSplit

CLASSES = 5


class DigitsClassifier(nn.Module):
    """The 64-64-64-5 network with ReLU; with ``labels`` it also returns the mean cross-entropy."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, CLASSES),
        )

    def forward(self, features: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.layers(features)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@dataclass(frozen=True)
class DigitsTask:
    """The data and the pretrained base, determined by ``seed`` and the pretraining settings."""

    seed: int = 0
    pretrain_epochs: int = 30
    pretrain_learning_rate: float = 3e-3

    name = "digits"
    version = 1
    metric = "accuracy"
    # The three linear layers, named once here: adapters go on all of them.
    target_modules = ("layers.0", "layers.2", "layers.4")

    def splits(self) -> Splits:
        """Return the rows of the digits 5-9, the half that is adapted to."""
        return _split(second_half=True, seed=self.seed)

    def base_model(self, cache: Path) -> DigitsClassifier:
        """Return the network pretrained on 0-4; trained once, then read from ``cache``."""
        file = cache / f"digits-{self._key()}.safetensors"
        if not file.exists():
            cache.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial")
            save_file(self._pretrained_state(), partial)
            partial.replace(file)
        with torch.device("meta"):
            model = DigitsClassifier()
        model.load_state_dict(load_file(file), assign=True)
        return model

    def _key(self) -> str:
        parts = (self.version, self.seed, self.pretrain_epochs, str(self.pretrain_learning_rate))
        return f"{derive_seed('digits-base', *parts):016x}"

    def _pretrained_state(self) -> dict[str, Tensor]:
        rows = _split(second_half=False, seed=self.seed).train
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "digits-base"))
            model = DigitsClassifier()
            optimizer = torch.optim.AdamW(model.parameters(), lr=self.pretrain_learning_rate)
            for _ in range(self.pretrain_epochs):
                for index in torch.randperm(len(rows)).split(32):
                    model(**rows.take(index))["loss"].backward()
                    optimizer.step()
                    optimizer.zero_grad()
        return model.state_dict()


def _split(*, second_half: bool, seed: int) -> Splits:
    pixels, digits = load_digits(return_X_y=True)
    keep = (digits >= CLASSES) == second_half
    features = torch.tensor(pixels[keep], dtype=torch.float32) / 16
    labels = torch.tensor(digits[keep] - CLASSES * second_half, dtype=torch.int64)
    generator = torch.Generator().manual_seed(derive_seed(seed, "digits-split", int(second_half)))
    order = torch.randperm(len(labels), generator=generator)
    cuts = [int(0.6 * len(order)), int(0.8 * len(order))]
    parts = [order[: cuts[0]], order[cuts[0] : cuts[1]], order[cuts[1] :]]
    train, validation, test = (
        TensorSplit({"features": features[part], "labels": labels[part]}) for part in parts
    )
    return Splits(train, validation, test)
