"""A run's model is asked: every protocol, resumed, written for the judging tools, and shown."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rankwise.cli.main import main
from rankwise.core.errors import SettingsError
from rankwise.core.records import read_record
from rankwise.evaluation.generation_grades import GradeCounts, grade_text
from rankwise.tasks.generation.questions import Question
from rankwise.training.answering import Asking, ask, open_respondent
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from tests.tasks.generation.generation_files import boolq_rows, tiny_llama, write_lines

SHORT = Asking(rows=5, max_new_tokens=4)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_lines(folder, "commonsense/boolq/train", boolq_rows(24))
    write_lines(folder, "commonsense/boolq/test", boolq_rows(9))
    problem = {"question": "1 + 1?", "answer": "#### 2"}
    write_lines(folder, "arithmetic/gsm8k/test", [problem])
    dialogue = [{"question_id": n, "category": "writing", "turns": ["a", "b"]} for n in (81, 82)]
    write_lines(folder, "dialogue/mt_bench/question", dialogue)
    asked = [{"dataset": "koala", "instruction": "a"}]
    write_lines(folder, "dialogue/alpaca_eval/questions", asked)
    return folder


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    output = tmp_path_factory.mktemp("output")
    task = {"data_root": str(root), "files": ["commonsense/boolq/train"], "rows": 8, "held_out": 4}
    task["model"] = tiny_llama(output / "model", has_pad=False)
    overrides = {"task": task, "method": {"r": 2}, "training": {"epochs": 1}}
    settings = load_recipe("generation-tutorial", overrides).run()
    train_run(settings, output)
    return output / "runs" / settings.name


@pytest.fixture
def respondent(run, tmp_path):
    return replace(open_respondent(run), folder=tmp_path / "answers")


@pytest.mark.parametrize("protocol", ["greedy", "sampled", "likelihood"])
def test_every_protocol_ends_in_a_recorded_score(respondent, protocol):
    result = ask(respondent, "boolq", replace(SHORT, protocol=protocol))
    assert (result.rows, result.available) == (5, 9)
    # Weighing always chooses; who writes nonsense gives no answer.
    assert (result.grades.unparsed == 0) is (protocol == "likelihood")
    (file,) = respondent.folder.glob("*.json")
    record = read_record(file)
    assert record["protocol"] == protocol
    assert record["accuracy"] == result.grades.accuracy


def test_what_is_answered_is_not_asked_again(respondent):
    counts = []
    first = ask(respondent, "boolq", SHORT, counts.append)
    assert counts == [5]
    assert ask(respondent, "boolq", SHORT, counts.append).grades == first.grades
    assert counts == [5]


def test_fewer_questions_than_wanted_are_all_asked(respondent):
    result = ask(respondent, "gsm8k", SHORT)
    assert (result.rows, result.available) == (1, 1)


def test_a_second_turn_follows_the_first_answer(respondent):
    result = ask(respondent, "mt-bench", SHORT)
    lines = [json.loads(line) for line in result.files[0].read_text().splitlines()]
    assert [len(line["choices"][0]["turns"]) for line in lines] == [2, 2]
    assert result.rating is None


def test_answers_for_alpaca_eval_are_written(respondent):
    result = ask(respondent, "alpaca-eval", SHORT)
    (answer,) = json.loads(result.files[0].read_text())
    assert answer["generator"] == respondent.name


def test_questions_without_options_cannot_be_weighed(respondent):
    with pytest.raises(SettingsError, match="questions of gsm8k have no options to weigh"):
        ask(respondent, "gsm8k", replace(SHORT, protocol="likelihood"))


def test_the_command_prints_a_table(run, capsys):
    options = ["--rows", "2", "--max-new-tokens", "2", "--batch-size", "2"]
    assert main(["evaluate", str(run), "--tasks", "boolq,mt-bench", *options]) == 0
    printed = capsys.readouterr().out
    assert "2 of 9" in printed
    assert "written: " in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "bool"], "no evaluation set 'bool'; did you mean 'boolq'"),
        (["--tasks", "boolq", "--rows", "0"], "--rows must be at least 1, got 0"),
        (["--tasks", "boolq", "--judge", "http://x"], "--judge needs --judge-model NAME"),
    ],
)
def test_mistakes_on_the_command_line_are_named(run, capsys, options, message):
    assert main(["evaluate", str(run), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_run_without_a_language_model_is_refused(tmp_path):
    settings = load_recipe("digits", {"training": {"epochs": 1}}).run()
    train_run(settings, tmp_path)
    with pytest.raises(SettingsError, match="digits has no model that writes answers"):
        open_respondent(tmp_path / "runs" / settings.name)


@pytest.mark.parametrize(
    ("kind", "question", "text", "grade"),
    [
        ("gsm8k", Question(("?",), "#### 1,200"), "The answer is: 1200", True),
        ("math", Question(("?",), r"\boxed{\frac12}"), "The answer is: 0.5", True),
        ("number", Question(("?",), "1.8333333333333335"), "The answer is 1.833", True),
        ("letter", Question(("?",), "B"), "The answer is (A)", False),
        ("choice", Question(("?",), "true", ("true", "false")), "it is true", True),
        ("ending", Question(("?",), "ending1", ("ending1",)), "nothing", None),
    ],
)
def test_each_kind_of_question_has_its_grader(kind, question, text, grade):
    assert grade_text(kind, question, text) is grade


def test_grades_count_what_is_no_answer_as_wrong():
    grades = GradeCounts.from_grades([True, False, None, True], available=9, truncated=1)
    assert grades.accuracy == 0.5
    assert (grades.correct, grades.unparsed, grades.truncated) == (2, 1, 1)
