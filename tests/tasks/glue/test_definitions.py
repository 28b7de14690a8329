"""The tasks of GLUE: complete, consistent, and found by name."""

from __future__ import annotations

import pytest

from rankwise.core.errors import SettingsError
from rankwise.evaluation.metrics import METRICS
from rankwise.tasks.glue.definitions import DEFINITIONS, find_definition


def test_all_tasks_are_there():
    names = "cola sst2 mrpc stsb qqp mnli mnli-mm qnli rte wnli"
    assert list(DEFINITIONS) == names.split()


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=DEFINITIONS)
def test_a_definition_is_consistent(definition):
    assert definition.kind == ("regression" if definition.name == "stsb" else "classification")
    assert len(definition.labels) == len(definition.written) == len(definition.words)
    assert len(set(definition.words)) == len(definition.words)
    assert len(definition.texts) in (1, 2)
    assert {len(form.texts) for form in definition.forms} == {len(definition.texts)}
    assert set(definition.metrics) <= set(METRICS)
    assert definition.version >= 1


@pytest.mark.parametrize(
    ("name", "headline"), [("cola", "matthews"), ("stsb", "pearson"), ("mrpc", "accuracy")]
)
def test_the_first_metric_is_the_headline(name, headline):
    assert find_definition(name).metrics[0] == headline


def test_classes_are_in_the_order_of_the_hub():
    assert find_definition("mnli").labels == ("entailment", "neutral", "contradiction")
    assert find_definition("rte").labels == ("entailment", "not_entailment")
    assert find_definition("wnli").labels == ("not_entailment", "entailment")


def test_words_that_no_paper_has_are_marked():
    ours = [name for name, definition in DEFINITIONS.items() if definition.has_own_words]
    assert ours == ["stsb", "qqp", "rte", "wnli"]


def test_an_unknown_task_is_refused_with_names_like_it():
    with pytest.raises(SettingsError, match="called 'sts-b': did you mean 'stsb'"):
        find_definition("sts-b")


def test_cola_has_accuracy_too_which_abm_loras_released_code_reports():
    assert DEFINITIONS["cola"].metrics == ("matthews", "accuracy")
