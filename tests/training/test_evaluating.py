"""An adapter's score is found again: from its run, from the folder in it, and from anywhere."""

from __future__ import annotations

import json
import shutil

import pytest

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.training.evaluating import score_adapter
from rankwise.training.finished import score_test
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from tests.models.saved import make_bert
from tests.tasks.generation.generation_files import tiny_llama
from tests.tasks.glue.glue_files import write_mrpc


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished GLUE run: its folder, its score on test, and the data it read."""
    folder = tmp_path_factory.mktemp("glue")
    root = write_mrpc(folder / "data", train=16, dev=20, test_labelled=12)
    model = make_bert(folder / "bert", ["train 1 other train 2"])
    run = load_recipe(
        "glue-tutorial",
        {
            "task": {"data_root": str(root), "model": model, "max_length": 32},
            "method": {"r": 2},
            "training": {"batch_size": 8},
        },
    ).run()
    train_run(run, folder / "out")
    test = score_test(run, folder / "out")
    return folder / "out" / "runs" / run.name, test, root


@pytest.mark.parametrize("part", ["", "adapter"])
@pytest.mark.parametrize("task", [None, "mrpc", "glue/mrpc"])
def test_a_recorded_adapter_scores_what_its_record_says(finished, part, task):
    run, test, _ = finished
    _, result = score_adapter(run / part, split="test", task=task)
    assert result.scores == test.scores
    assert result.predictions == list(test.predictions)


def test_an_adapter_from_anywhere_scores_the_same(finished, tmp_path):
    run, test, root = finished
    shutil.copytree(run / "adapter", tmp_path / "adapter")
    options = {"data_root": str(root), "protocol": "official", "max_length": 32}
    _, result = score_adapter(tmp_path / "adapter", split="test", task="glue/mrpc", options=options)
    assert result.predictions == list(test.predictions)


def test_an_export_on_a_task_that_makes_its_own_base_scores_the_same(tmp_path):
    task = {"pretrain_epochs": 1}
    run = load_recipe("digits", {"task": task, "training": {"epochs": 1}}).run()
    train_run(run, tmp_path / "out")
    folder = tmp_path / "out" / "runs" / run.name
    shutil.copytree(folder / "adapter", tmp_path / "adapter")
    _, result = score_adapter(tmp_path / "adapter", split="test", task="digits", options=task)
    assert result.scores == score_test(run, tmp_path / "out").scores


@pytest.mark.parametrize("options", [{"split_seed": 1}, {"rows": 8}, {"protocol": "held-out"}])
def test_the_splits_of_a_run_are_its_own(finished, options):
    with pytest.raises(SettingsError, match=r"would cut other splits .* rows that it has seen"):
        score_adapter(finished[0], split="test", options=options)


def test_so_they_are_of_a_run_on_digits(tmp_path):
    run = load_recipe("digits", {"task": {"pretrain_epochs": 1}, "training": {"epochs": 1}}).run()
    train_run(run, tmp_path)
    with pytest.raises(SettingsError, match=r"task\.seed 1 would cut other splits"):
        score_adapter(tmp_path / "runs" / run.name, split="test", options={"seed": 1})


def test_a_run_chosen_by_the_likelihood_is_asked_what_it_writes(tmp_path, monkeypatch):
    rows = [{"prompt": f"ask {i} is {i * 7}", "completion": f"yes {i % 3}"} for i in range(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "written_by_me.py").write_text(
        "def lengths(predictions, labels):\n"
        "    return max(len(text.split()) for text in predictions)\n"
    )
    monkeypatch.chdir(tmp_path)
    model = tiny_llama(tmp_path / "llama", has_pad=False)
    settings = {"task": {"model": model}, "method": {"r": 2}, "training": {"epochs": 1}}
    run = load_recipe("pairs.jsonl", settings).run()
    train_run(run, tmp_path / "out")
    folder = tmp_path / "out" / "runs" / run.name
    _, chosen = score_adapter(folder, split="test")
    asked = ["exact_match", "written_by_me:lengths"]
    options = {"metrics": asked, "max_new_tokens": 2}
    _, found = score_adapter(folder, split="test", options=options)
    assert list(chosen.scores) == ["likelihood", "perplexity"]
    assert list(found.scores) == asked
    assert found.scores["written_by_me:lengths"] <= 2
    assert all(label.startswith("yes") for label in found.labels)
    assert found.loss == chosen.loss


def test_data_that_were_moved_are_found_where_they_are_now(finished, tmp_path):
    run, test, root = finished
    shutil.copytree(root, tmp_path / "moved")
    options = {"data_root": str(tmp_path / "moved")}
    _, result = score_adapter(run, split="test", options=options)
    assert result.predictions == list(test.predictions)


def test_an_adapter_without_a_record_needs_its_task(finished, tmp_path):
    shutil.copytree(finished[0] / "adapter", tmp_path / "adapter")
    with pytest.raises(SettingsError, match="no record that says its task: add --task"):
        score_adapter(tmp_path / "adapter", split="test")


def test_a_task_that_does_not_exist_is_refused(finished):
    with pytest.raises(SettingsError, match=r"task\.name: no 'mrcp'; did you mean 'mrpc'"):
        score_adapter(finished[0], split="test", task="glue/mrcp")


def test_a_folder_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(AdapterError, match=r"neither a record\.json nor an adapter_config\.json"):
        score_adapter(tmp_path, split="test", task="glue/mrpc")
