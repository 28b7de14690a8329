"""The corpora to train on: what each is called on the Hub and below a data root, and its size."""

from __future__ import annotations

from dataclasses import dataclass

METRICS = ("likelihood",)
# Raised when the rows or the labels change.
VERSION = 1
SMALL = "small"
"""The model that is made from local texts (``small.py``)."""


@dataclass(frozen=True)
class Corpus:
    """A data set.

    Attributes:
        hub: Its name on the Hub; the split is ``train``.
        files: Its local file below the data root, without the ending: the first that exists.
        rows: How many the data set has on the Hub.
        takes_first: A limited number of rows are the first ones, as in LoRA-SB's MetaMathQA;
            otherwise they are drawn, because the rows are sorted by where they come from.
    """

    hub: str
    files: tuple[str, ...]
    rows: int
    takes_first: bool = False


CORPORA = {
    "metamathqa": Corpus(
        "meta-math/MetaMathQA",
        ("arithmetic/metamathqa/train", "MetaMathQA-395K"),
        395_000,
        takes_first=True,
    ),
    "commonsense": Corpus(
        "zwhe99/commonsense_170k",
        (
            "commonsense/commonsense_170k/train",
            "ft-training_set/commonsense_170k",
            "commonsense_170k",
        ),
        170_420,
    ),
    "alpaca": Corpus("tatsu-lab/alpaca", ("dialogue/alpaca/train", "alpaca_data"), 52_002),
    "evol-instruct": Corpus(
        "WizardLMTeam/WizardLM_evol_instruct_70k",
        ("dialogue/evol_instruct/train", "alpaca_evol_instruct_70k"),
        70_000,
    ),
}
