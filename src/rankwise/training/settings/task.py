"""The settings of a task: where its rows come from, how they are cut, and what model reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import PositiveFloat, PositiveInt

from rankwise.tasks.generation.definitions import CORPORA
from rankwise.tasks.glue.definitions import DEFINITIONS as GLUE
from rankwise.tasks.table import Dtype
from rankwise.tasks.vtab.definitions import DEFINITIONS as VTAB
from rankwise.training.settings.base import Settings, setting
from rankwise.training.settings.kinds import Kinds
from rankwise.training.settings.own_data import (
    OWN_DATA,
    CausalLmSettings,
    ImageClassificationSettings,
    OwnDataSettings,
    PreferenceSettings,
    SftSettings,
    TextClassificationSettings,
    TextToTextSettings,
    TokenClassificationSettings,
)

if TYPE_CHECKING:
    GlueName = VtabName = GenerationName = str
else:
    # The names of tasks have one definition, in the folder of each family.
    GlueName, VtabName, GenerationName = Literal[*GLUE], Literal[*VTAB], Literal[*CORPORA]

_DTYPE = "dtype of the pretrained weights; what trains is float32"


class DigitsSettings(Settings):
    """scikit-learn's digits of 8×8 pixels, and how the base model is made."""

    name: Literal["digits"] = "digits"
    seed: int = setting(0, "decides the split and the base model", unit="number", ge=0)
    pretrain_epochs: PositiveInt = setting(30, "epochs that make the base model", unit="epochs")
    pretrain_learning_rate: PositiveFloat = setting(
        3e-3, "learning rate that makes the base model", unit="per step"
    )


class MnistSettings(Settings):
    """MNIST, and how the base model is made."""

    name: Literal["mnist"] = "mnist"
    data_root: Path | None = setting(
        None, "folder with vision/mnist; null: RANKWISE_DATA of the environment, or the Hub"
    )
    seed: int = setting(0, "decides the split and the base model", unit="number", ge=0)
    hidden: PositiveInt = setting(64, "width of the two hidden layers", unit="units")
    pretrain_epochs: PositiveInt = setting(8, "epochs that make the base model", unit="epochs")
    pretrain_learning_rate: PositiveFloat = setting(
        1e-3, "learning rate that makes the base model", unit="per step"
    )


class GlueSettings(Settings):
    """A task of GLUE, and the pretrained model that is adapted to it."""

    name: GlueName
    model: str = setting(..., "a model's name on the Hub, a local folder, or package:NAME/FOLDER")
    form: Literal["classes", "text"] = setting(
        "classes", "a classification head, or text to text (T5)"
    )
    data_root: Path | None = setting(
        None, "folder with glue/TASK; null: RANKWISE_DATA of the environment, or the Hub"
    )
    protocol: Literal["revisited", "official", "held-out"] = setting(
        "revisited", "how validation and test are cut (docs/guides/glue.md)"
    )
    split_seed: int | None = setting(
        None, "seed of the cut of the rows; null: the run's own", unit="number", ge=0
    )
    rows: PositiveInt | None = setting(None, "training rows; null: all", unit="rows")
    max_length: PositiveInt = setting(
        128, "longer texts are cut, and counted in the record", unit="tokens"
    )
    dtype: Dtype = setting("float32", _DTYPE, is_later=True)


class VtabSettings(Settings):
    """A task of VTAB-1K, and the pretrained vision transformer that is adapted to it."""

    name: VtabName
    model: str = setting(..., "a model's name on the Hub, a local folder, or package:NAME/FOLDER")
    data_root: Path | None = setting(
        None, "folder with vision/TASK; null: RANKWISE_DATA of the environment, or the Hub"
    )
    protocol: Literal["tuning", "final"] = setting(
        "tuning", "train on 800 rows and validate on 200, or train on all 1,000"
    )
    split_seed: int | None = setting(
        None, "seed of the cut of the rows; null: the run's own", unit="number", ge=0
    )


class SmallModelSettings(Settings):
    """A Llama of some million parameters, trained here from nothing, to try everything with."""

    files: list[str] = setting([], "its texts, as in task.files; none: those of the task")
    vocabulary: int = setting(2048, "size of its vocabulary", unit="tokens", ge=300)
    width: PositiveInt = setting(192, "width of its hidden states", unit="units")
    blocks: PositiveInt = setting(4, "its transformer blocks", unit="blocks")
    heads: PositiveInt = setting(6, "attention heads of a block", unit="heads")
    steps: PositiveInt = setting(300, "optimizer steps that make it", unit="steps")
    batch_size: PositiveInt = setting(16, "texts of a step that makes it", unit="texts")
    length: PositiveInt = setting(128, "tokens of a text that makes it", unit="tokens")
    learning_rate: PositiveFloat = setting(
        2e-3, "the highest learning rate that makes it", unit="per step"
    )
    seed: int = setting(0, "decides its start and the order of its texts", unit="number", ge=0)
    reads_held_out: bool = setting(
        False,
        "whether it reads the rows of validation and test too (as version 0.1 did)",
        before=True,
    )


class GenerationSettings(Settings):
    """Instructions to train on, and the causal model that is adapted to them."""

    name: GenerationName
    model: str = setting(
        ..., "a model's name on the Hub, a local folder, package:NAME/FOLDER, or small"
    )
    small: SmallModelSettings = SmallModelSettings()
    data_root: Path | None = setting(
        None,
        "folder with FAMILY/TASK/SPLIT.jsonl; null: RANKWISE_DATA of the environment, or the Hub",
    )
    files: list[str] = setting(
        [], "local files in the corpus's place, below the data root and without endings"
    )
    template: Literal["alpaca", "chat"] = setting(
        "alpaca", "the form of prompts: Alpaca's, or the tokenizer's own"
    )
    rows: PositiveInt | None = setting(None, "training rows; null: all", unit="rows")
    held_out: PositiveInt = setting(200, "rows each of validation and test", unit="rows")
    split_seed: int | None = setting(
        None, "seed of the cut of the rows; null: the run's own", unit="number", ge=0
    )
    max_length: PositiveInt = setting(
        512, "longer texts are cut, and counted in the record", unit="tokens"
    )
    dtype: Dtype = setting("float32", _DTYPE, is_later=True)


TASK_KINDS = Kinds(
    "name",
    DigitsSettings,
    MnistSettings,
    GlueSettings,
    VtabSettings,
    GenerationSettings,
    *OWN_DATA,
)
TaskSettings = Annotated[
    DigitsSettings
    | MnistSettings
    | GlueSettings
    | VtabSettings
    | GenerationSettings
    | TextClassificationSettings
    | ImageClassificationSettings
    | TokenClassificationSettings
    | SftSettings
    | TextToTextSettings
    | CausalLmSettings
    | PreferenceSettings,
    TASK_KINDS,
]


def dtype_of(task: TaskSettings) -> Dtype:
    """Return the dtype of the base's weights."""
    has_dtype = isinstance(task, (GlueSettings, GenerationSettings, OwnDataSettings))
    return task.dtype if has_dtype else "float32"


def trains_on_validation(task: TaskSettings) -> bool:
    """Say whether the validation rows are among the training rows."""
    return isinstance(task, VtabSettings) and task.protocol == "final"
