"""A task of VTAB-1K on a pretrained vision transformer with a fresh head (ABM-LoRA's experiment).

ABM-LoRA (2025, arXiv 2511.19145) reports ViT-B/16 on the nineteen tasks; settings and code of that
part are not published. Ours are: adapters on every linear layer but the head, that is on the
projections of attention and MLP (query, key, value, output, fc1 and fc2), and a head drawn anew
from the run's seed, whatever the checkpoint has.

The pre-activations that ABM matches are those of the MLPs. A vision transformer uses GELU, which is
smooth: where its input changes sign no linear region ends, and the sign is a convention there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModelForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from rankwise.core.errors import ModelError
from rankwise.core.seeds import derive_seed
from rankwise.tasks.answers import Answers, largest_logit
from rankwise.tasks.architectures import build_on_meta, read_architecture
from rankwise.tasks.pretrained import from_pretrained, load_model
from rankwise.tasks.splits import Batch, Rehearsal, Splits
from rankwise.tasks.vtab.definitions import (
    METRICS,
    TRAINING_ROWS,
    VALIDATION_SHARE,
    Definition,
    find_definition,
)
from rankwise.tasks.vtab.images import Part
from rankwise.tasks.vtab.rows import ImageRows, Pixels
from rankwise.tasks.vtab.splits import Protocol, read_vtab


@dataclass(frozen=True)
class VtabTask:
    """One of the tasks, determined by where its images come from, how they are cut, and the model.

    Two that differ only in the head are equal: runs of one process share the rows that one of them
    has read.

    Attributes:
        name: As in ``definitions``.
        model: Name or folder, see ``tasks/pretrained.py``.
        data_root: The data root with local folders; None: the Hub.
        protocol: What is trained on, see ``splits``.
        split_seed: Seed of the cut.
        head_seed: Seed of the head.
    """

    name: str
    model: str
    data_root: Path | None = None
    protocol: Protocol = "tuning"
    split_seed: int = 0
    head_seed: int = field(default=0, compare=False)

    metrics = METRICS
    # Every linear layer but the head: PEFT leaves that out.
    target_modules = "all-linear"
    head_modules = ("classifier",)
    evaluation_batch_size = 64

    @property
    def definition(self) -> Definition:
        """What VTAB says about the task."""
        return find_definition(self.name)

    @property
    def version(self) -> int:
        return self.definition.version

    def splits(self) -> Splits:
        """Return the rows; those of training and validation are held in memory, as bytes.

        Raises:
            DataError: Any image of the three splits is broken, or a label is none of the classes.
        """
        return _splits(self)

    def rehearse(self) -> Rehearsal:
        """Return the architecture without weights, and a grey image."""
        config = read_architecture(self.model, num_labels=self.definition.classes)
        side = cast(int, config.image_size)
        processor = ViTImageProcessorPil(size={"height": side, "width": side})
        grey = _One(Image.new("RGB", (side, side), "grey"))
        part = Part(grey, torch.zeros(1, dtype=torch.int64), "made up")
        model = build_on_meta(AutoModelForImageClassification, config)
        kept = TRAINING_ROWS
        if self.protocol == "tuning":
            kept -= TRAINING_ROWS // VALIDATION_SHARE
        return Rehearsal.of(model, ImageRows(part, Pixels(processor)), kept)

    def base_model(self, cache: Path) -> nn.Module:
        """Return the pretrained model with a head that is drawn from ``head_seed``.

        Raises:
            ModelError: There is no such model, or its head is no single linear layer.
        """
        model = load_model(
            AutoModelForImageClassification,
            self.model,
            seed=self.head_seed,
            num_labels=self.definition.classes,
            ignore_mismatched_sizes=True,
        )
        _draw_head(model, self.model, seed=derive_seed(self.head_seed, "vtab-head"))
        return model

    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Read the class of the largest logit."""
        return largest_logit(output, batch)


@dataclass(frozen=True)
class _One:
    image: Image.Image

    def __len__(self) -> int:
        return 1

    def __getitem__(self, row: int) -> Image.Image:
        return self.image


@torch.no_grad()
def _draw_head(model: nn.Module, name: str, *, seed: int) -> None:
    """Draw the head from N(0, σ²) with the σ of the model's configuration, and no bias."""
    head = getattr(model, "classifier", None)
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"the head of {name} must be one linear layer named classifier, got "
            f"{type(head).__name__}: choose a --task.model such as a ViT"
        )
    generator = torch.Generator().manual_seed(seed)
    deviation = float(getattr(model.config, "initializer_range", 0.02))
    head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * deviation)
    cast(Tensor, head.bias).zero_()


@lru_cache(maxsize=2)
def _splits(task: VtabTask) -> Splits:
    """Read the rows; kept, because many runs of a process read the same."""
    parts = read_vtab(
        task.definition,
        root=task.data_root,
        protocol=task.protocol,
        split_seed=task.split_seed,
    )
    processor = from_pretrained(AutoImageProcessor, task.model, backend="pil")
    pixels = Pixels(processor)
    facts = {
        split: {"rows": len(part.images), "source": part.source}
        for split, part in parts._asdict().items()
    }
    facts["validation"]["trained_on"] = task.protocol == "final"
    train, validation, test = (ImageRows(part, pixels) for part in parts)
    # Test is too large to hold for some tasks; what is broken in it must show before training.
    return Splits(train.hold(), validation.hold(), test.check(), facts=facts)
