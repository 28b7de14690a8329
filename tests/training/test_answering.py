"""Benchmarks for a run's model: every protocol, resumed, written for the judging tools, shown."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rankwise.cli.main import main
from rankwise.core.errors import SettingsError
from rankwise.core.records import read_record
from rankwise.evaluation.generation_grades import NO_ANSWER, Grade, GradeCounts, grade_text
from rankwise.tasks.generation.questions import Question
from rankwise.training import generation_model
from rankwise.training.answering import GenerationRequest, answer_benchmark
from rankwise.training.generation_model import opened_for_generation
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from tests.tasks.generation.generation_files import boolq_rows, tiny_llama, write_lines

pytestmark = pytest.mark.runs

SHORT = GenerationRequest(rows=5, max_new_tokens=4)


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
def model(run, tmp_path):
    with opened_for_generation(run) as opened:
        yield replace(opened, folder=tmp_path / "answers")


@pytest.mark.parametrize("protocol", ["greedy", "sampled", "likelihood"])
def test_every_protocol_ends_in_a_recorded_score(model, protocol):
    result = answer_benchmark(model, "boolq", replace(SHORT, protocol=protocol))
    assert (result.rows, result.available) == (5, 9)
    # Weighing always chooses; who writes nonsense gives no answer.
    assert (result.grades.unparsed == 0) is (protocol == "likelihood")
    (file,) = model.folder.glob("*.json")
    record = read_record(file)
    assert record["protocol"] == protocol
    assert record["accuracy"] == result.grades.accuracy
    # By the rules of the papers' code, which grade what was generated alone.
    assert (record["accuracy_as_published"] is None) is (protocol == "likelihood")


def test_what_is_answered_is_not_asked_again(model):
    counts = []
    first = answer_benchmark(model, "boolq", SHORT, counts.append)
    assert counts == [5]
    assert answer_benchmark(model, "boolq", SHORT, counts.append).grades == first.grades
    assert counts == [5]


def test_fewer_questions_than_wanted_are_all_asked(model):
    result = answer_benchmark(model, "gsm8k", SHORT)
    assert (result.rows, result.available) == (1, 1)


def test_a_second_turn_follows_the_first_answer(model):
    result = answer_benchmark(model, "mt-bench", SHORT)
    lines = [json.loads(line) for line in result.files[0].read_text().splitlines()]
    assert [len(line["choices"][0]["turns"]) for line in lines] == [2, 2]
    assert result.rating is None


def test_answers_for_alpaca_eval_are_written(model):
    result = answer_benchmark(model, "alpaca-eval", SHORT)
    (answer,) = json.loads(result.files[0].read_text())
    assert answer["generator"] == model.name


def test_questions_without_options_cannot_be_weighed(model):
    with pytest.raises(SettingsError, match="questions of gsm8k have no options to weigh"):
        answer_benchmark(model, "gsm8k", replace(SHORT, protocol="likelihood"))


def test_the_command_prints_a_table(run, capsys):
    options = ["--rows", "2", "--max-new-tokens", "2", "--batch-size", "2"]
    assert main(["evaluate", str(run), "--tasks", "boolq,mt-bench", *options]) == 0
    printed = capsys.readouterr().out
    assert "2 of 9" in printed
    assert "written: " in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "bool"], "no benchmark 'bool'; did you mean 'boolq'"),
        (["--tasks", "boolq", "--task.rows", "9"], "--tasks takes the settings --task.model, "),
        (["--engine", "vllm"], "--engine does not go with a split: add --tasks"),
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
    with (
        pytest.raises(SettingsError, match="digits has no model that writes answers"),
        opened_for_generation(tmp_path / "runs" / settings.name),
    ):
        pass


def test_an_adapter_directory_answers_too_and_finds_its_data(run, root, tmp_path, capsys):
    """Without a record: the base by the adapter's config, the benchmarks where the user says."""
    shutil.copytree(run / "adapter", tmp_path / "adapter")
    options = ["--rows", "2", "--max-new-tokens", "2", "--task.data_root", str(root)]
    assert main(["evaluate", str(tmp_path / "adapter"), "--tasks", "boolq", *options]) == 0
    assert "2 of 9" in capsys.readouterr().out
    assert len(list((tmp_path / "adapter" / "answers").iterdir())) == 2


def test_the_weights_of_the_model_stay_as_they_are(model):
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    answer_benchmark(model, "boolq", SHORT)
    after = model.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


class FakeVllm:
    """Says true to whatever it is asked, and looks whether the adapter is there."""

    def __init__(self, base, adapter, *, end, dtype):
        self.opened = (base, sorted(file.name for file in adapter.iterdir()), dtype)
        self.end = end

    def ready(self):
        return contextlib.nullcontext()

    def generate(self, prompts, decoding, *, seed):
        return [[self.end] for _ in prompts]


def test_vllm_gets_the_base_and_the_adapter_as_a_plain_lora(run, tmp_path, monkeypatch):
    monkeypatch.setattr(generation_model.VllmEngine, "open", FakeVllm)
    with opened_for_generation(run, engine="vllm") as opened:
        model = replace(opened, folder=tmp_path / "answers")
        base, files, dtype = model.engine.opened
        assert Path(base, "config.json").is_file()
        assert files == ["adapter_config.json", "adapter_model.safetensors"]
        assert (dtype, model.context) == ("float32", 512)
        assert answer_benchmark(model, "boolq", SHORT).grades.unparsed == 5
        with pytest.raises(SettingsError, match="weighed by Transformers alone: leave --engine"):
            answer_benchmark(model, "boolq", replace(SHORT, protocol="likelihood"))


@pytest.mark.parametrize(
    ("kind", "question", "text", "grade"),
    [
        ("gsm8k", Question(("?",), "#### 1,200"), "The answer is: 1200", True),
        ("math", Question(("?",), r"\boxed{\frac12}"), "The answer is: 0.5", True),
        ("number", Question(("?",), "1.8333333333333335"), "The answer is 1.833", True),
        ("letter", Question(("?",), "B"), "The answer is (A)", False),
        ("choice", Question(("?",), "true", ("true", "false")), "it is true", True),
        ("choice", Question(("?",), "ending1", ("ending1",)), "nothing", None),
    ],
)
def test_each_kind_of_question_has_its_grader(kind, question, text, grade):
    assert grade_text(kind, question, text).is_correct is grade


def test_grades_count_what_is_no_answer_as_wrong():
    given = [Grade(True, True), Grade(False, True), NO_ANSWER, Grade(True, False)]
    grades = GradeCounts.from_grades(given, available=9, truncated=1)
    assert grades.accuracy == 0.5
    assert grades.correct_as_published == 2
    assert grades.accuracy_as_published == 0.5
    assert (grades.correct, grades.unparsed, grades.truncated) == (2, 1, 1)
