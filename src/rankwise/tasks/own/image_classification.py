"""Classes of the user's own images: a folder a class, or a column of images."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from PIL import Image
from torch import nn
from transformers import AutoImageProcessor, AutoModelForImageClassification

from rankwise.core.errors import DataError
from rankwise.tasks.answers import Answers, largest_logit
from rankwise.tasks.own.columns import IMAGE_NAMES, check_columns, find_label, named_like
from rankwise.tasks.own.definitions import CLASS_METRICS, IMAGE_CLASSIFICATION
from rankwise.tasks.own.division import Divided, divide
from rankwise.tasks.own.labels import read_labels
from rankwise.tasks.own.named_images import NamedImages
from rankwise.tasks.own.source import read_source
from rankwise.tasks.own.task import OwnTask
from rankwise.tasks.pretrained import class_options, from_pretrained
from rankwise.tasks.splits import Batch, Splits
from rankwise.tasks.vtab.images import FORMATS, Part, decoded
from rankwise.tasks.vtab.rows import ImageRows, Pixels

# Images of a split are held as bytes up to here, and opened each time beyond.
MOST_BYTES_HELD = 1 << 30


class LabelledImage(NamedTuple):
    """One row: where its bytes are, their digest, and its class."""

    image: Mapping[str, Any]
    digest: str
    label: int
    place: str


class LabelledImages(NamedTuple):
    """All rows, the names of the classes, and what was read from where."""

    divided: Divided[LabelledImage]
    classes: tuple[str, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class EncodedImages:
    """Images as files or bytes, decoded when they are asked for."""

    rows: tuple[LabelledImage, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Image.Image:
        found = self.rows[row]
        stream = io.BytesIO(_bytes_of(found.image))
        return decoded(lambda: Image.open(stream, formats=FORMATS), found.place)


@dataclass(frozen=True)
class ImageClassification(OwnTask):
    """Image classification with the model's own image processor.

    Attributes:
        image: The column of the images; None: guessed.
        label: The column of the classes; None: guessed.
        image_folder: Where images lie that rows name; None: in the folder of the table.
    """

    image: str | None = None
    label: str | None = None
    image_folder: str | None = None

    auto_class: ClassVar[Any] = AutoModelForImageClassification

    @property
    def name(self) -> str:
        return IMAGE_CLASSIFICATION

    @property
    def head_modules(self) -> tuple[str, ...]:
        return ("classifier",)

    @property
    def answers_with(self) -> str:
        return "classes"

    @property
    def rows(self) -> LabelledImages:
        """The rows, not decoded."""
        return _read(self.source, self.cut, self.image, self.label, self.image_folder)

    @property
    def default_metrics(self) -> tuple[str, ...]:
        return CLASS_METRICS

    @property
    def model_options(self) -> dict[str, Any]:
        """What the model's configuration has to say about the head."""
        return class_options(self.rows.classes)

    def splits(self) -> Splits:
        """Return the rows.

        Raises:
            DataError: The data are not as the settings say, an image is broken, or they cannot be
                divided.
        """
        return _splits(self)

    @property
    def loading_options(self) -> dict[str, Any]:
        """A head of other classes is drawn anew."""
        return {"ignore_mismatched_sizes": True}

    def answers(self, model: nn.Module, output: Mapping[str, Any], batch: Batch) -> Answers:
        """Read the class of the largest logit."""
        return largest_logit(output, batch)


@lru_cache(maxsize=2)
def _read(
    source: Any, cut: Any, image: str | None, label: str | None, image_folder: str | None
) -> LabelledImages:
    """Read and divide the rows; kept, because many runs of a process read the same."""
    from datasets import Image as ImageColumn

    given, place = read_source(source), source.data
    train = given["train"]
    image = image or named_like(train, IMAGE_NAMES)
    if image is None:
        names = ", ".join(train.column_names)
        raise DataError(f"{place}: which column is the image? set --task.image to one of {names}")
    label = label or find_label(train, place=place, beside=(image,))
    for split, rows in given.items():
        check_columns(rows, (image, label), place=f"{place}, {split}")
    labels = read_labels(
        {split: rows[label][:] for split, rows in given.items()},
        target="classes",
        names=getattr(train.features[label], "names", None),
        place=f"{place}, column {label!r}",
    )
    files = NamedImages.of(source, image_folder)
    rows = {
        split: [
            _row(value, int(number), place=f"{place}, {split}, row {position}", files=files)
            for position, (value, number) in enumerate(
                zip(
                    rows.cast_column(image, ImageColumn(decode=False))[image],
                    labels.values[split],
                    strict=True,
                ),
                start=1,
            )
        ]
        for split, rows in given.items()
    }
    classes = labels.classes or ()
    divided = divide(
        rows,
        cut,
        key=lambda row: row.digest,
        stratum=lambda row: classes[row.label],
        place=place,
    )
    return LabelledImages(
        divided, classes, {"image": image, "label": label, "classes": list(classes)}
    )


def _row(value: Any, label: int, *, place: str, files: NamedImages) -> LabelledImage:
    if not isinstance(value, dict) or not (value.get("bytes") or value.get("path")):
        raise DataError(f"{place} has no image")
    if not value.get("bytes"):
        value = {"bytes": None, "path": str(files.find(value["path"], place=place))}
    named = place if value["bytes"] else f"{value['path']}"
    try:
        digest = hashlib.sha256(_bytes_of(value)).hexdigest()
    except OSError as error:
        raise DataError(f"{place}: its image cannot be read ({error})") from None
    return LabelledImage(value, digest, label, named)


def _bytes_of(image: Mapping[str, Any]) -> bytes:
    return image["bytes"] or Path(image["path"]).read_bytes()


@lru_cache(maxsize=2)
def _splits(task: ImageClassification) -> Splits:
    task.check_metrics()
    rows = task.rows
    processor = from_pretrained(AutoImageProcessor, task.model, backend="pil")
    pixels = Pixels(processor)
    splits: dict[str, ImageRows] = {}
    facts: dict[str, Any] = {"columns": rows.facts}
    for split, found in rows.divided.rows.items():
        labels = torch.tensor([row.label for row in found], dtype=torch.int64)
        images = ImageRows(Part(EncodedImages(tuple(found)), labels, task.source.data), pixels)
        splits[split] = images.hold() if _fits(images) else images.check()
        facts[split] = rows.divided.facts[split] | {"source": task.source.data}
    return Splits(**splits, facts=facts)


def _fits(images: ImageRows) -> bool:
    one = images.pixels.resized([images.part.images[0]])
    return one.numel() * len(images) <= MOST_BYTES_HELD
