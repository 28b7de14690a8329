"""Classes of words: entities as CoNLL's evaluation reads them, and words one by one."""

from __future__ import annotations

import pytest

from rankwise.evaluation.word_metrics import entities, entity_f1, word_accuracy, word_macro_f1

LABELS = [
    ("B-PER", "I-PER", "O", "B-LOC"),
    ("O", "B-ORG", "B-ORG", "I-ORG", "O"),
    ("I-LOC", "I-LOC", "I-PER"),
]
SAID = [
    ("B-PER", "I-PER", "O", "B-ORG"),
    ("O", "B-ORG", "I-ORG", "I-ORG", "O"),
    ("I-LOC", "I-LOC", "I-PER"),
]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["B-X", "I-X", "O"], [("X", 0, 2)]),
        (["B-X", "B-X"], [("X", 0, 1), ("X", 1, 2)]),
        (["I-X", "I-X"], [("X", 0, 2)]),
        (["B-X", "I-Y", "I-Y"], [("X", 0, 1), ("Y", 1, 3)]),
        (["O", "O"], []),
        (["B", "I", "O"], [("", 0, 2)]),
    ],
)
def test_where_an_entity_begins_and_ends(classes, expected):
    assert entities(classes) == expected


def test_the_score_is_that_of_seqeval():
    # seqeval 1.2.2: f1_score, default mode. Three right of six there and five found.
    assert entity_f1(SAID, LABELS) == pytest.approx(6 / 11)


def test_nothing_found_and_nothing_there_is_zero():
    assert entity_f1([("O",)], [("O",)]) == 0


def test_words_are_scored_one_by_one():
    assert word_accuracy(SAID, LABELS) == pytest.approx(10 / 12)
    assert word_macro_f1([("N", "N", "V")], [("N", "V", "V")]) == pytest.approx(2 / 3)
