"""The tasks of GLUE (Wang et al. 2019, arXiv 1804.07461): columns, labels, metrics and words.

The first metric is the headline, by which checkpoints are chosen: GLUE's official one, which for
MRPC, QQP and STS-B is a mean of two; there we take the first, as DeLoRA's released code does
(ExplainableML/DeLoRA, commit 82bfcb0). LoRA-SB reports the same ones.

The text-to-text form, an instruction and one word a label, is that of ABM-LoRA's released code
(lee-research/ABM-LoRA, commit 39fac98, data.py) for MRPC, MNLI, SST-2, CoLA and QNLI. It has none
for RTE, STS-B, QQP and WNLI: those are ours, made in the same manner (``has_own_words``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rankwise.core.errors import SettingsError, nearest_names

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class File:
    """The name of a local file without ``.tsv`` or ``.tsv.gz``; ``partial``: not all the split."""

    stem: str
    partial: bool = False


@dataclass(frozen=True)
class Columns:
    """The names of the text columns, in order, and of the label column."""

    texts: tuple[str, ...]
    label: str = "label"


@dataclass(frozen=True)
class Definition:
    """One task.

    Attributes:
        name: As users write it.
        folder: Of its local files, below ``glue`` in the data root.
        hub: Its configuration of the Hub's data set nyu-mll/glue.
        texts: The Hub's text columns.
        forms: The columns of local files; the first form that a header holds is taken.
        labels: Names of the classes in order, as on the Hub; none for a regression.
        written: The same as local files write them.
        metrics: Names of its metrics, the headline first.
        instruction: What begins the text-to-text form.
        words: The answer for each class in the text-to-text form; none for a regression.
        training_rows: Rows of the whole training split, those with an empty text left out.
        has_own_words: Whether the text-to-text form is ours and not a published one.
        header: The columns of local files that have no header line.
        files: For each split the local files that may hold it, the complete one first.
        hub_splits: The Hub's names of the splits.
        validation_rows: Rows of the validation split under ``revisited``; None: half of them.
        is_swapped: Whether ``revisited`` takes the halves in the other order.
        version: Raised when the rows or the labels change.
    """

    name: str
    folder: str
    hub: str
    texts: tuple[str, ...]
    forms: tuple[Columns, ...]
    labels: tuple[str, ...]
    written: tuple[str, ...]
    metrics: tuple[str, ...]
    instruction: str
    words: tuple[str, ...]
    training_rows: int
    has_own_words: bool = False
    header: tuple[str, ...] | None = None
    files: tuple[tuple[Split, tuple[File, ...]], ...] = (
        ("train", (File("train"), File("train_subset", partial=True))),
        ("validation", (File("dev"), File("dev_subset", partial=True))),
        ("test", (File("test_labelled"),)),
    )
    hub_splits: tuple[tuple[Split, str], ...] = (
        ("train", "train"),
        ("validation", "validation"),
        ("test", "test"),
    )
    validation_rows: int | None = None
    is_swapped: bool = False
    version: int = 1

    @property
    def kind(self) -> Literal["classification", "regression"]:
        return "classification" if self.labels else "regression"


# STS-B's scores lie between the first and the last of these; as text they are rounded to one of
# them, 0.2 apart.
SCORES = tuple(step / 5 for step in range(26))
LOWEST_SCORE, HIGHEST_SCORE = SCORES[0], SCORES[-1]
_SENTENCES = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")
_RELATIONS = ("entailment", "neutral", "contradiction")


def _mnli(name: str, section: str) -> Definition:
    dev = f"dev_{section}"
    return Definition(
        name=name,
        folder="MNLI",
        hub="mnli",
        texts=("premise", "hypothesis"),
        # GLUE's own files have the second form.
        forms=(Columns(("premise", "hypothesis")), Columns(_SENTENCES, "gold_label")),
        labels=_RELATIONS,
        written=_RELATIONS,
        metrics=("accuracy",),
        instruction="classify the text relationship: ",
        words=_RELATIONS,
        training_rows=392_702,
        files=(
            ("train", (File("train"), File("train_subset", partial=True))),
            ("validation", (File(dev), File(f"{dev}_sample1000", partial=True))),
            ("test", (File(f"test_{section}_labelled"),)),
        ),
        hub_splits=(
            ("train", "train"),
            ("validation", f"validation_{section}"),
            ("test", f"test_{section}"),
        ),
        validation_rows=1000,
    )


_ALL = (
    Definition(
        name="cola",
        folder="CoLA",
        hub="cola",
        texts=("sentence",),
        forms=(Columns(("sentence",)),),
        labels=("unacceptable", "acceptable"),
        written=("0", "1"),
        metrics=("matthews", "accuracy"),
        instruction="classify the grammatical acceptability of the text: ",
        words=("unacceptable", "acceptable"),
        training_rows=8_551,
        header=("source", "label", "original_mark", "sentence"),
        is_swapped=True,
    ),
    Definition(
        name="sst2",
        folder="SST-2",
        hub="sst2",
        texts=("sentence",),
        forms=(Columns(("sentence",)),),
        labels=("negative", "positive"),
        written=("0", "1"),
        metrics=("accuracy",),
        instruction="classify the sentiment of the text: ",
        words=("negative", "positive"),
        training_rows=67_349,
    ),
    Definition(
        name="mrpc",
        folder="MRPC",
        hub="mrpc",
        texts=_SENTENCES,
        forms=(Columns(("#1 String", "#2 String"), "Quality"),),
        labels=("not_equivalent", "equivalent"),
        written=("0", "1"),
        metrics=("accuracy", "f1"),
        instruction="classify the semantic similarity of the text: ",
        words=("different", "equivalent"),
        training_rows=3_668,
    ),
    Definition(
        name="stsb",
        folder="STS-B",
        hub="stsb",
        texts=_SENTENCES,
        forms=(Columns(_SENTENCES, "score"),),
        labels=(),
        written=(),
        metrics=("pearson", "spearman"),
        instruction="rate the semantic similarity of the text from 0 to 5: ",
        words=(),
        training_rows=5_749,
        has_own_words=True,
    ),
    Definition(
        name="qqp",
        folder="QQP",
        hub="qqp",
        texts=("question1", "question2"),
        forms=(Columns(("question1", "question2"), "is_duplicate"),),
        labels=("not_duplicate", "duplicate"),
        written=("0", "1"),
        metrics=("accuracy", "f1"),
        instruction="classify the semantic similarity of the questions: ",
        words=("different", "duplicate"),
        training_rows=363_846,
        has_own_words=True,
        validation_rows=1000,
    ),
    _mnli("mnli", "matched"),
    _mnli("mnli-mm", "mismatched"),
    Definition(
        name="qnli",
        folder="QNLI",
        hub="qnli",
        texts=("question", "sentence"),
        forms=(Columns(("question", "sentence")),),
        labels=_ENTAILMENT,
        written=_ENTAILMENT,
        metrics=("accuracy",),
        instruction="classify whether the question is entailed by the text: ",
        words=_ENTAILMENT,
        training_rows=104_743,
        validation_rows=1000,
    ),
    Definition(
        name="rte",
        folder="RTE",
        hub="rte",
        texts=_SENTENCES,
        forms=(Columns(_SENTENCES),),
        labels=_ENTAILMENT,
        written=_ENTAILMENT,
        metrics=("accuracy",),
        instruction="classify whether the second text is entailed by the first: ",
        words=_ENTAILMENT,
        training_rows=2_490,
        has_own_words=True,
    ),
    Definition(
        name="wnli",
        folder="WNLI",
        hub="wnli",
        texts=_SENTENCES,
        forms=(Columns(_SENTENCES),),
        # Not RTE's order: in GLUE's files 1 says that the second sentence follows.
        labels=("not_entailment", "entailment"),
        written=("0", "1"),
        metrics=("accuracy",),
        instruction="classify whether the second sentence follows from the first: ",
        words=("not_entailment", "entailment"),
        training_rows=635,
        has_own_words=True,
    ),
)
DEFINITIONS = {definition.name: definition for definition in _ALL}


def find_definition(name: str) -> Definition:
    """Return the task called ``name``.

    Raises:
        SettingsError: There is none.
    """
    if name not in DEFINITIONS:
        raise SettingsError(f"no GLUE task is called {name!r}: {nearest_names(name, DEFINITIONS)}")
    return DEFINITIONS[name]
