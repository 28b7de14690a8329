"""Classes of words: at the first token of each, scored by word and by entity."""

from __future__ import annotations

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from rankwise.core.errors import DataError, SettingsError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.evaluation.scores import evaluate
from rankwise.tasks.own.division import Cut
from rankwise.tasks.own.source import Source
from rankwise.tasks.own.token_classification import TokenClassification
from tests.models.saved import make_bert
from tests.tasks.own.own_files import write_csv, write_jsonl

ROWS = [
    {"tokens": ["visitors", f"in{n}", "Paris"], "ner_tags": ["O", "O", "B-LOC"]} for n in range(20)
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    texts = ["visitors in 0 1 2 3 4 5 6 7 8 9 Paris"]
    return make_bert(tmp_path_factory.mktemp("bert") / "model", texts)


def tagging(tmp_path, model, rows=ROWS, **options):
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    return TokenClassification(Source(file), Cut(), model, **options)


def test_the_first_token_of_a_word_bears_its_class(tmp_path, bert):
    task = tagging(tmp_path, bert)
    batch = task.splits().train.take(slice(0, 4))
    words = task.tokenizer()(ROWS[0]["tokens"], is_split_into_words=True).word_ids()
    firsts = [words.index(word) for word in range(3)]
    expected = [IGNORED_LABEL] * len(words)
    for position, name in zip(firsts, ("O", "O", "B-LOC"), strict=True):
        expected[position] = task.rows.classes.index(name)
    assert batch["labels"][0][: len(words)].tolist() == expected
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORED_LABEL).all()


def test_a_model_is_scored_by_entity_and_by_word(tmp_path, bert):
    task = tagging(tmp_path, bert)
    found = evaluate(task.base_model(tmp_path), task.splits().test, task)
    assert list(found.scores) == ["entity_f1", "word_accuracy"]
    assert found.labels == [("O", "O", "B-LOC")] * 2


def test_classes_that_are_no_entities_are_scored_by_word(tmp_path, bert):
    rows = [{"words": f"visitors in {n}", "pos": "NOUN ADP NUM"} for n in range(20)]
    task = tagging(tmp_path, bert, rows, tags="pos")
    assert task.default_metrics == ("word_accuracy", "word_macro_f1")
    assert task.rows.facts["words"] == "words"


def test_cells_of_words_with_blanks_between_are_read(tmp_path, bert):
    cells = [[" ".join(row["tokens"]), " ".join(row["ner_tags"])] for row in ROWS]
    file = write_csv(tmp_path / "a.csv", ["words", "tags"], cells)
    task = TokenClassification(Source(file), Cut(), bert)
    assert task.rows.classes == ("B-LOC", "O")


def test_numbers_with_names_are_named(tmp_path, bert):
    names = ClassLabel(names=["O", "B-LOC"])
    features = Features({"tokens": List(Value("string")), "ner_tags": List(names)})
    Dataset.from_list(ROWS, features=features).to_parquet(tmp_path / "a.parquet")
    task = TokenClassification(Source(str(tmp_path / "a.parquet")), Cut(), bert)
    assert task.rows.classes == ("O", "B-LOC")


def test_words_beyond_the_greatest_length_are_counted_and_not_scored(tmp_path, bert):
    rows = [*ROWS, {"tokens": ["Paris"] * 40, "ner_tags": ["B-LOC"] * 40}]
    task = tagging(tmp_path, bert, rows, max_length=16)
    facts = task.splits().facts
    assert sum(facts[split]["truncated"] for split in ("train", "validation", "test")) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a", "b"], "ner_tags": ["O"]}, r"row 21 has 2 words and 1 tags: each word"),
        ({"tokens": [], "ner_tags": []}, r"row 21 has 0 words and 0 tags"),
        ({"tokens": ["a"], "ner_tags": [" "]}, r"column 'ner_tags', train: 1 of 61 rows have no"),
    ],
)
def test_words_and_classes_that_do_not_go_together_are_refused(tmp_path, bert, row, message):
    with pytest.raises(DataError, match=message):
        tagging(tmp_path, bert, [*ROWS, row]).splits()


def test_a_column_that_cannot_be_told_is_asked_for(tmp_path, bert):
    with pytest.raises(DataError, match=r"which column holds the tags\? set --task\.tags to one"):
        tagging(tmp_path, bert, [{"words": "a", "b": "y"}]).splits()


def test_a_metric_of_rows_is_refused(tmp_path, bert):
    with pytest.raises(SettingsError, match="'accuracy' does not fit words: choose from entity_f1"):
        tagging(tmp_path, bert, asked_metrics=("accuracy",)).splits()
