"""The settings of a task: where its rows come from, how they are cut, and what model reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from rankwise.training.settings.base import Settings


class DigitsSettings(Settings):
    """scikit-learn's digits of 8×8 pixels, and how the base model is made."""

    name: Literal["digits"] = "digits"
    seed: int = Field(default=0, ge=0, description="seed of the split and of the base model")
    pretrain_epochs: PositiveInt = 30
    pretrain_learning_rate: PositiveFloat = 3e-3


class MnistSettings(Settings):
    """MNIST, and how the base model is made."""

    name: Literal["mnist"] = "mnist"
    data_root: Path | None = Field(
        default=None,
        description="folder with vision/mnist; None is the environment's RANKWISE_DATA, or the Hub",
    )
    seed: int = Field(default=0, ge=0, description="seed of the split and of the base model")
    hidden: PositiveInt = 64
    pretrain_epochs: PositiveInt = 8
    pretrain_learning_rate: PositiveFloat = 1e-3


Dtype = Literal["float32", "bfloat16", "float16"]
_DTYPE = "of the pretrained weights, which stay as they are; what trains is float32"

GlueName = Literal["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "mnli-mm", "qnli", "rte", "wnli"]


class GlueSettings(Settings):
    """A task of GLUE, and the pretrained model that is adapted to it."""

    name: GlueName
    model: str = Field(
        description="a model's name on the Hub, a local folder, or package:NAME/FOLDER"
    )
    form: Literal["classes", "text"] = Field(
        default="classes", description="a classification head, or text to text (T5)"
    )
    data_root: Path | None = Field(
        default=None,
        description="folder with glue/TASK; None is the environment's RANKWISE_DATA, or the Hub",
    )
    protocol: Literal["revisited", "official", "held-out"] = Field(
        default="revisited", description="how validation and test are cut (docs/guides/glue.md)"
    )
    split_seed: int | None = Field(default=None, ge=0, description="None is the run's own seed")
    rows: PositiveInt | None = Field(default=None, description="training rows; None is all")
    max_length: PositiveInt = Field(default=128, description="tokens, the rest is cut and counted")
    dtype: Dtype = Field(default="float32", description=_DTYPE)


VtabName = Literal[
    "cifar100",
    "caltech101",
    "dtd",
    "flowers102",
    "pets",
    "svhn",
    "sun397",
    "patch-camelyon",
    "eurosat",
    "resisc45",
    "diabetic-retinopathy",
    "clevr-count",
    "clevr-distance",
    "dmlab",
    "kitti-distance",
    "dsprites-location",
    "dsprites-orientation",
    "smallnorb-azimuth",
    "smallnorb-elevation",
]


class VtabSettings(Settings):
    """A task of VTAB-1K, and the pretrained vision transformer that is adapted to it."""

    name: VtabName
    model: str = Field(
        description="a model's name on the Hub, a local folder, or package:NAME/FOLDER"
    )
    data_root: Path | None = Field(
        default=None,
        description="folder with vision/TASK; None is the environment's RANKWISE_DATA, or the Hub",
    )
    protocol: Literal["tuning", "final"] = Field(
        default="tuning", description="train on 800 and validate on 200, or train on all 1,000"
    )
    split_seed: int | None = Field(default=None, ge=0, description="None is the run's own seed")


class SmallModelSettings(Settings):
    """A Llama of some million parameters, trained here from nothing, to try everything with."""

    files: list[str] = Field(
        default_factory=list, description="its texts; none: those of the task's own files"
    )
    vocabulary: int = Field(default=2048, ge=300)
    width: PositiveInt = 192
    blocks: PositiveInt = 4
    heads: PositiveInt = 6
    steps: PositiveInt = 300
    batch_size: PositiveInt = 16
    length: PositiveInt = 128
    learning_rate: PositiveFloat = 2e-3
    seed: int = Field(default=0, ge=0)


class GenerationSettings(Settings):
    """Instructions to train on, and the causal model that is adapted to them."""

    name: Literal["metamathqa", "commonsense", "alpaca", "evol-instruct"]
    model: str = Field(
        description="a model's name on the Hub, a local folder, package:NAME/FOLDER, or small"
    )
    small: SmallModelSettings = SmallModelSettings()
    data_root: Path | None = Field(
        default=None,
        description="folder with FAMILY/TASK/SPLIT.jsonl; None is RANKWISE_DATA, or the Hub",
    )
    files: list[str] = Field(
        default_factory=list, description="local files in the corpus's place, without endings"
    )
    template: Literal["alpaca", "chat"] = Field(
        default="alpaca", description="the form of prompts: Alpaca's, or the tokenizer's own"
    )
    rows: PositiveInt | None = Field(default=None, description="training rows; None is all")
    held_out: PositiveInt = Field(default=200, description="rows each of validation and test")
    split_seed: int | None = Field(default=None, ge=0, description="None is the run's own seed")
    max_length: PositiveInt = Field(default=512, description="tokens, the rest is cut and counted")
    dtype: Dtype = Field(default="float32", description=_DTYPE)


TaskSettings = Annotated[
    DigitsSettings | MnistSettings | GlueSettings | VtabSettings | GenerationSettings,
    Field(discriminator="name"),
]


def dtype_of(task: TaskSettings) -> Dtype:
    """Return the dtype of the base's weights."""
    return task.dtype if isinstance(task, (GlueSettings, GenerationSettings)) else "float32"


def trains_on_validation(task: TaskSettings) -> bool:
    """Say whether the validation rows are among the training rows."""
    return isinstance(task, VtabSettings) and task.protocol == "final"
