"""EleutherAI's harness, really run without a network, gives the scores that our own code gives."""

from __future__ import annotations

import importlib.metadata
import json
import random
import shutil

import numpy as np
import pytest
import torch
import yaml
from datasets import config as datasets_config

from rankwise.cli.main import main
from rankwise.core.errors import ModelError, SettingsError
from rankwise.core.records import read_record
from rankwise.evaluation.commonsense_likelihood import answer_likelihoods, likeliest
from rankwise.evaluation.harness import _plain, find_tasks, run_harness
from rankwise.training.evaluating import find_causal
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from tests.tasks.generation.generation_files import boolq_rows, tiny_llama, write_lines

pytestmark = pytest.mark.runs

ROWS, CHOICES = 6, ["a", "b", "c", "d"]


def question(row):
    return f"{'abcdef'[row] * 3} which of {' '.join(CHOICES)}?\nAnswer {row}:"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of LoRA-XS whose change of the base is large enough to see."""
    output = tmp_path_factory.mktemp("run")
    write_lines(output / "data", "commonsense/boolq/train", boolq_rows(12))
    task = {"data_root": str(output / "data"), "files": ["commonsense/boolq/train"], "rows": 8}
    task |= {"held_out": 2, "model": tiny_llama(output / "model", has_pad=False)}
    method = {"name": "lora-xs", "r": 4}
    training = {"epochs": 3, "learning_rate": 2.0}
    settings = load_recipe(
        "generation-tutorial", {"task": task, "method": method, "training": training}
    ).run()
    train_run(settings, output)
    return output / "runs" / settings.name


def chosen(model, tokenizer):
    """Return the likeliest choice of each question, by our own code."""
    answers = []
    for row in range(ROWS):
        asked = tokenizer.encode(question(row), add_special_tokens=False)
        for choice in CHOICES:
            whole = tokenizer.encode(f"{question(row)} {choice}", add_special_tokens=False)
            answers.append((whole, len(asked)))
    return likeliest(answer_likelihoods(model, answers), [len(CHOICES)] * ROWS)


@pytest.fixture(scope="module")
def tasks(run, tmp_path_factory):
    """Two tasks whose right answers are the model's own, but for the third question."""
    folder = tmp_path_factory.mktemp("tasks")
    causal = find_causal(run)
    model = causal.load()
    own = chosen(model, causal.tokenizer)
    with model.disable_adapter():
        # Otherwise the score below could as well be the base's.
        assert chosen(model, causal.tokenizer)[:4] != own[:4]
    right = [(each + (row == 2)) % len(CHOICES) for row, each in enumerate(own)]
    rows = [{"question": question(row), "label": label} for row, label in enumerate(right)]
    data = write_lines(folder, "rows", rows)
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "{{question}}",
    }
    weighed = {
        "task": "own_choice",
        "output_type": "multiple_choice",
        "doc_to_target": "label",
        "doc_to_choice": CHOICES,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 7},
    }
    written = {
        "task": "own_text",
        "output_type": "generate_until",
        "doc_to_target": "no such answer",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 3, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean"}],
    }
    broken = {"task": "own_broken", "output_type": "generate_until", "doc_to_target": "label"}
    broken["dataset_kwargs"] = {"data_files": {"test": str(folder / "nowhere.jsonl")}}
    unsafe = written | {"task": "own_code", "unsafe_code": True}
    for task in (weighed, written, broken, unsafe):
        text = yaml.safe_dump(common | task)
        (folder / f"{task['task']}.yaml").write_text(text, encoding="utf-8")
    mean = {"metric": "acc", "aggregation": "mean", "weight_by_size": True}
    group = {"group": "own_group", "task": ["own_choice", "own_text"]}
    text = yaml.safe_dump(group | {"aggregate_metric_list": [mean]})
    (folder / "own_group.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True, scope="module")
def _alone(tmp_path_factory):
    """Data sets are kept in a temporary folder; the machine, of which no test reads, is unseen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets_config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        patch.setattr("torch.utils.collect_env.get_pretty_env_info", str)
        yield


def evaluate(adapter, *options):
    return main(["evaluate", str(adapter), "--harness", "lm_eval", *options])


def test_the_command_gives_the_score_of_our_own_likelihoods(run, tasks, capsys):
    names = ["--tasks", "own_choice, own_text", "--include-path", str(tasks)]
    assert evaluate(run, *names, "--rows", "4", "--batch-size", "3") == 0
    printed = capsys.readouterr().out
    file = run / "answers" / "lm_eval-own_choice-4.json"
    assert f"written: {file}" in printed
    line = next(line for line in printed.splitlines() if "own_choice" in line and "acc" in line)
    assert [word for word in line.split() if word not in "│"] == [
        *("own_choice", "7", "4", "of", str(ROWS), "0", "acc", "0.7500", "0.2500")
    ]

    record = read_record(file)
    # Of four questions the third has another answer than the model's own.
    assert record["results"]["own_choice"]["acc,none"] == 0.75
    assert record["versions"] == {"own_choice": 7}
    assert record["lm_eval"] == importlib.metadata.version("lm_eval")
    assert record["seeds"] == {"random": 0, "numpy": 1234, "torch": 1234, "fewshot": 1234}
    assert (record["run"], record["rows"], record["batch_size"]) == (run.name, 4, 3)

    written = read_record(run / "answers" / "lm_eval-own_text-4.json")
    assert written["results"]["own_text"]["exact_match,none"] == 0.0
    assert written["n-samples"]["own_text"] == {"original": ROWS, "effective": 4}


def test_an_adapter_without_a_record_is_asked_the_same(run, tasks, tmp_path):
    shutil.copytree(run / "adapter", tmp_path / "mine")
    (task,) = find_tasks(["own_choice"], tasks)
    causal = find_causal(tmp_path / "mine")
    assert (causal.name, causal.folder) == ("mine", tmp_path / "mine" / "answers")
    found = run_harness(causal.load(), causal.tokenizer, task)
    (measure,) = found.measures()
    assert (measure.metric, measure.value) == ("acc", (ROWS - 1) / ROWS)


def test_a_group_has_a_score_beside_those_of_its_tasks(run, tasks):
    (group,) = find_tasks(["own_group"], tasks)
    causal = find_causal(run)
    found = run_harness(causal.load(), causal.tokenizer, group, rows=4)
    scores = {(each.task, each.metric): each.value for each in found.measures()}
    assert scores == {
        ("own_choice", "acc"): 0.75,
        ("own_text", "exact_match"): 0.0,
        ("own_group", "acc"): 0.75,
    }


def test_asking_leaves_no_trace(run, tasks):
    causal = find_causal(run)
    model = causal.load().train()
    (task,) = find_tasks(["own_text"], tasks)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    run_harness(model, causal.tokenizer, task, rows=1)
    assert model.training
    assert causal.tokenizer.pad_token is None
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]


def test_a_context_that_is_too_short_is_told(run, tasks):
    causal = find_causal(run)
    (task,) = find_tasks(["own_text"], tasks)
    task.parts[0].set_config("generation_kwargs", {"max_gen_toks": 600}, update=True)
    with pytest.raises(ModelError, match=r"cannot evaluate own_text: .*\(600\) must be less than"):
        run_harness(causal.load(), causal.tokenizer, task, rows=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "own_choise"], "no task 'own_choise'; did you mean 'own_choice'"),
        (["--tasks", "own_broken"], "task 'own_broken' cannot be loaded (FileNotFoundError: "),
        (["--tasks", "own_code"], "own_code runs code that a model wrote"),
        ([], "--harness needs --tasks"),
        (["--tasks", "own_text", "--rows", "0"], "--rows must be at least 1, got 0"),
        (["--tasks", "own_text", "--protocol", "greedy"], "--protocol does not go with --harness"),
        (["--tasks", "own_text", "--split", "test"], "--split does not go with --harness"),
        (["--tasks", "own_text", "--task.rows", "3"], "takes the settings --task.model, "),
        (["--tasks", "own_text", "--method.r", "3"], "takes settings of task, and none of method"),
    ],
)
def test_mistakes_are_named_before_a_model_is_loaded(tasks, tmp_path, capsys, options, message):
    # There is no adapter: whoever looked for one would say so.
    assert evaluate(tmp_path, "--include-path", str(tasks), *options) == 2
    assert message in capsys.readouterr().err


def test_a_folder_of_tasks_that_is_none_is_named(tmp_path, capsys):
    assert evaluate(tmp_path, "--tasks", "a", "--include-path", str(tmp_path / "b")) == 2
    assert "--include-path must be a folder with YAML files" in capsys.readouterr().err


def test_without_the_harness_it_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert evaluate(tmp_path, "--tasks", "gsm8k") == 2
    assert "pip install 'rankwise[harness]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "boolq", "--include-path", "."], "--include-path does not go with --tasks al"),
        (["--tasks", "boolq", "--split", "test"], "--split does not go with --tasks alone"),
        (["--rows", "5"], "--rows does not go with a split: add --tasks"),
        (["--protocol", "sampled"], "--protocol does not go with a split: add --tasks"),
    ],
)
def test_options_of_another_form_are_refused(tmp_path, capsys, options, message):
    assert main(["evaluate", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_run_without_a_causal_model_is_refused(tmp_path):
    settings = load_recipe("digits", {"training": {"epochs": 1}}).run()
    train_run(settings, tmp_path)
    with pytest.raises(SettingsError, match="digits has no model that writes answers"):
        find_causal(tmp_path / "runs" / settings.name)


def test_what_is_not_finite_is_recorded_as_none():
    content = {"a": float("nan"), "b": [np.float64(0.5), np.int64(2)], "c": len}
    assert (
        json.dumps(_plain(content)) == '{"a": null, "b": [0.5, 2], "c": "<built-in function len>"}'
    )
