"""The nineteen tasks of VTAB (Zhai et al. 2019, arXiv 1910.04867): groups, classes, and where.

The Hub's copies are those of CLIP_benchmark, one data set a task. They have whole training splits,
of which a run takes 1,000 images by its seed: not the very 1,000 of the benchmark's own lists. Who
wants those puts them into local folders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rankwise.core.errors import SettingsError, nearest_names

Group = Literal["natural", "specialized", "structured"]
GROUPS: tuple[Group, ...] = ("natural", "specialized", "structured")

METRICS = ("accuracy",)
TRAINING_ROWS = 1000
# A fifth of the training images: 800 and 200.
VALIDATION_SHARE = 5


@dataclass(frozen=True)
class Definition:
    """One task.

    Attributes:
        name: As users write it, and the folder of its local files.
        group: Of which the benchmark takes the mean.
        classes: Their number; labels run from 0.
        hub: What its data set on the Hub is called.
        version: Raised when the rows or the labels change.
    """

    name: str
    group: Group
    classes: int
    hub: str
    version: int = 1


def _define(group: Group, *tasks: tuple[str, int, str]) -> list[Definition]:
    return [
        Definition(name, group, classes, f"clip-benchmark/wds_vtab-{hub}")
        for name, classes, hub in tasks
    ]


DEFINITIONS = {
    each.name: each
    for each in (
        *_define(
            "natural",
            ("cifar100", 100, "cifar100"),
            ("caltech101", 102, "caltech101"),
            ("dtd", 47, "dtd"),
            ("flowers102", 102, "flowers"),
            ("pets", 37, "pets"),
            ("svhn", 10, "svhn"),
            ("sun397", 397, "sun397"),
        ),
        *_define(
            "specialized",
            ("patch-camelyon", 2, "pcam"),
            ("eurosat", 10, "eurosat"),
            ("resisc45", 45, "resisc45"),
            ("diabetic-retinopathy", 5, "diabetic_retinopathy"),
        ),
        *_define(
            "structured",
            ("clevr-count", 8, "clevr_count_all"),
            ("clevr-distance", 6, "clevr_closest_object_distance"),
            ("dmlab", 6, "dmlab"),
            ("kitti-distance", 4, "kitti_closest_vehicle_distance"),
            ("dsprites-location", 16, "dsprites_label_x_position"),
            ("dsprites-orientation", 16, "dsprites_label_orientation"),
            ("smallnorb-azimuth", 18, "smallnorb_label_azimuth"),
            ("smallnorb-elevation", 9, "smallnorb_label_elevation"),
        ),
    )
}


def find_definition(name: str) -> Definition:
    """Look a task up by name.

    Raises:
        SettingsError: There is no such task; the nearest names are suggested.
    """
    if name not in DEFINITIONS:
        raise SettingsError(f"VTAB has no task {name!r}; {nearest_names(name, DEFINITIONS)}")
    return DEFINITIONS[name]
