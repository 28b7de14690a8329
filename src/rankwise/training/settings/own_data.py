"""The settings of the tasks on data of the user's own."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import PositiveFloat, PositiveInt, field_validator

from rankwise.tasks.table import Dtype
from rankwise.training.settings.base import Settings, setting

_MAX_LENGTH = "longer texts are cut, and counted in the record; null: what the model reads, up to "


class OwnDataSettings(Settings):
    """What all tasks on the user's own data have in common."""

    data: str = setting(
        ..., "a CSV, TSV, JSON, JSONL, Parquet or text file, a folder, or hub:OWNER/NAME"
    )
    data_digest: str | None = setting(
        None, "SHA-256 that the files must have; null: not checked", pattern=r"^[0-9a-f]{64}$"
    )
    config: str | None = setting(None, "the configuration of a data set of the Hub")
    train: str | None = setting(
        None, "the split to train on; null: train, or the only one there is"
    )
    validation: str | None = setting(
        None, "a file or a split; null: the one called so, else cut out of training"
    )
    test: str | None = setting(
        None, "a file or a split; null: the one called so, else cut out of training"
    )
    held_out: float = setting(
        0.1, "share of the rows for each split that is not given", unit="ratio", gt=0, lt=0.5
    )
    split_seed: int | None = setting(
        0, "seed of the cut of the rows; null: the run's own", unit="number", ge=0
    )
    max_duplicates: float = setting(
        0.05,
        "the greatest share of a given split that may stand in training too",
        unit="ratio",
        ge=0,
        le=1,
    )
    rows: PositiveInt | None = setting(None, "training rows; null: all", unit="rows")
    delimiter: str | None = setting(
        None, "what parts the cells of a CSV file; null: a tab for .tsv, else a comma"
    )
    quotes: bool = setting(True, "whether cells of a CSV file are quoted")
    metrics: list[str] = setting(
        [], "the metric to compare by, then others: names, or MODULE:FUNCTION; none: the task's"
    )
    model: str = setting(..., "a model's name on the Hub, a local folder, or package:NAME/FOLDER")
    dtype: Dtype = setting("float32", "dtype of the pretrained weights; what trains is float32")
    quantization: Literal["nf4", "int8", "int8-torchao"] | None = setting(
        None,
        "hold pretrained weights in 4 or 8 bits, by bitsandbytes or torchao; null: in dtype",
    )
    attn_implementation: str | None = setting(
        None, "attention as Transformers names it, such as sdpa or eager; null: its choice"
    )
    device_map: str | None = setting(
        None, "where weights lie, such as auto for several devices; null: on one"
    )


class TextClassificationSettings(OwnDataSettings):
    """Classes, or numbers, of texts of the user's own."""

    name: Literal["text-classification"] = "text-classification"
    text: list[str] = setting([], "the column of the text, or two of a pair; none: guessed")
    label: str | None = setting(None, "the column of the label; null: guessed")
    target: Literal["classes", "regression"] | None = setting(
        None, "what labels are; null: their values decide"
    )
    max_length: PositiveInt | None = setting(None, f"{_MAX_LENGTH}512", unit="tokens")

    @field_validator("text", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class ImageClassificationSettings(OwnDataSettings):
    """Classes of images of the user's own."""

    name: Literal["image-classification"] = "image-classification"
    image: str | None = setting(None, "the column of the image; null: guessed")
    label: str | None = setting(None, "the column of the class; null: guessed")
    image_folder: str | None = setting(
        None, "where images lie that rows name; null: in the folder of the table", is_later=True
    )


class TokenClassificationSettings(OwnDataSettings):
    """Classes of the words in texts of the user's own."""

    name: Literal["token-classification"] = "token-classification"
    words: str | None = setting(
        None, "the column of the words, lists or texts with blanks between; null: guessed"
    )
    tags: str | None = setting(None, "the column of their classes, likewise; null: guessed")
    max_length: PositiveInt | None = setting(None, f"{_MAX_LENGTH}512", unit="tokens")


class SftSettings(OwnDataSettings):
    """Supervised fine-tuning on prompts and completions, or conversations, of the user's own."""

    name: Literal["sft"] = "sft"
    prompt: str | None = setting(None, "the column of the prompt; null: guessed")
    completion: str | None = setting(None, "the column of the completion; null: guessed")
    messages: str | None = setting(
        None, "the column of a conversation, a list of role and content; null: guessed"
    )
    loss: Literal["completion", "all"] = setting(
        "completion", "what is learned: completions and the assistant's messages, or all of a row"
    )
    max_new_tokens: PositiveInt = setting(
        128, "the most that is written of a row for metrics of texts", unit="tokens", is_later=True
    )
    packing: bool = setting(
        False,
        "pack training rows into sequences of max_length, of which a batch then is; rows do not "
        "see one another",
        is_later=True,
    )
    max_length: PositiveInt | None = setting(None, f"{_MAX_LENGTH}1,024", unit="tokens")


class TextToTextSettings(OwnDataSettings):
    """Texts of the user's own, each to be written for another, by T5 and its kind."""

    name: Literal["text-to-text"] = "text-to-text"
    prompt: str | None = setting(None, "the column of what is read; null: guessed")
    completion: str | None = setting(None, "the column of what is to be written; null: guessed")
    max_length: PositiveInt | None = setting(None, f"{_MAX_LENGTH}512", unit="tokens")
    max_target_length: PositiveInt = setting(
        128, "what is to be written is cut there, and counted; no more is written", unit="tokens"
    )


class CausalLmSettings(OwnDataSettings):
    """Plain text of the user's own, in blocks of one length."""

    name: Literal["causal-lm"] = "causal-lm"
    text: str | None = setting(None, "the column of the text; null: guessed")
    max_length: PositiveInt | None = setting(
        None, "tokens of a block; null: what the model reads, up to 1,024", unit="tokens"
    )


class PreferenceSettings(OwnDataSettings):
    """Completions of the user's own of which one was chosen and one rejected, by DPO."""

    name: Literal["preference"] = "preference"
    prompt: str | None = setting(
        None, "the column of the prompt; null: guessed, or the beginning that the two share"
    )
    chosen: str | None = setting(
        None, "the column of the better completion, a text or messages; null: guessed"
    )
    rejected: str | None = setting(None, "the column of the other completion; null: guessed")
    beta: PositiveFloat = setting(
        0.1, "how strongly the model is held to where it began", unit="ratio"
    )
    max_length: PositiveInt | None = setting(None, f"{_MAX_LENGTH}1,024", unit="tokens")


OWN_DATA = (
    TextClassificationSettings,
    ImageClassificationSettings,
    TokenClassificationSettings,
    SftSettings,
    TextToTextSettings,
    CausalLmSettings,
    PreferenceSettings,
)
