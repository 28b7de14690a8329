"""What leaves as a plain LoRA computes what the run computed, or does not leave."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from peft import PeftModelForSequenceClassification
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rankwise.cli.main import main
from rankwise.core.disk import is_want_of_room
from rankwise.core.errors import AdapterError, ModelError
from rankwise.export.gguf import HEAD
from rankwise.tasks.digits import DigitsTask
from rankwise.training import job, publishing
from rankwise.training.finished import FinishedRun
from rankwise.training.publishing import publish_lora, publish_merged
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from tests.full_disk import Disk
from tests.models.saved import make_bert
from tests.tasks.glue.glue_files import write_mrpc

pytestmark = pytest.mark.runs


@pytest.mark.parametrize(
    ("name", "rank"), [("lora", 2), ("cola", 6), ("rac-lora", 6), ("lora-sb", 2), ("delora", 4)]
)
def test_each_method_leaves_as_one_lora_of_the_rank_of_its_formula(
    settings, output, tmp_path, name, rank
):
    chain = {"schedule": {"every_epochs": 1}} if name in ("cola", "rac-lora") else None
    run = settings(name, method=chain)
    train_run(run, output)
    published = publish_lora(output / "runs" / run.name, tmp_path / "lora")
    assert published.lora.rank == rank
    assert published.largest_difference < 1e-5
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", rank, rank)


def test_full_fine_tuning_has_no_adapter_to_publish(settings, output, tmp_path):
    run = settings("full")
    train_run(run, output)
    with pytest.raises(ModelError):
        publish_lora(output / "runs" / run.name, tmp_path / "lora")
    assert not (tmp_path / "lora").exists()


@pytest.mark.parametrize(("room", "moves"), [(True, 2), (False, 0)])
def test_both_models_are_compared_on_a_gpu_with_room_for_them(
    settings, output, tmp_path, monkeypatch, room, moves
):
    run, moved = settings("lora", loop="trainer"), []
    train_run(run, output)
    monkeypatch.setattr(publishing, "have_room", lambda *_: room)
    monkeypatch.setattr(job, "on_accelerator", lambda model: moved.append(model) or model)
    publish_lora(output / "runs" / run.name, tmp_path / "lora")
    assert len(moved) == moves


def test_outputs_that_differ_leave_nothing_behind(settings, output, tmp_path, monkeypatch):
    run = settings("lora")
    train_run(run, output)
    monkeypatch.setattr(publishing, "_largest_difference", lambda *_: 0.01)
    with pytest.raises(AdapterError, match=r"differ from .* by 1.0e-02 .*nothing was exported"):
        publish_lora(output / "runs" / run.name, tmp_path / "lora")
    assert not (tmp_path / "lora").exists()


def test_merged_weights_compute_what_the_run_computed(settings, output, tmp_path):
    run = settings("delora")
    train_run(run, output)
    rows, difference = publish_merged(output / "runs" / run.name, tmp_path / "merged")
    assert rows > 0
    assert difference < 1e-5
    tensors = load_file(tmp_path / "merged" / "model.safetensors")
    base = DigitsTask(pretrain_epochs=2).base_model(output / "base")
    assert tensors.keys() == base.state_dict().keys()
    assert "merged into the weights" in (tmp_path / "merged" / "README.md").read_text()


def test_a_smaller_rank_shows_what_it_loses(settings, output, tmp_path):
    run = settings("cola", method={"schedule": {"every_epochs": 1}})
    train_run(run, output)
    published = publish_lora(output / "runs" / run.name, tmp_path / "lora", rank=2)
    assert published.lora.rank == 2
    assert len(published.errors) == 3
    assert 0 < max(published.errors.values()) < 1
    assert published.largest_difference > 1e-4
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 2


def test_a_failure_after_writing_leaves_nothing_behind(settings, output, tmp_path, monkeypatch):
    run = settings("lora")
    train_run(run, output)
    monkeypatch.setattr(publishing, "_largest_difference", lambda *_: 0.01)
    with pytest.raises(AdapterError, match="nothing was exported"):
        publish_merged(output / "runs" / run.name, tmp_path / "merged")
    assert {file.name for file in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize("publish", [publish_lora, publish_merged])
def test_an_export_for_which_there_is_no_room_leaves_nothing(
    settings, output, tmp_path, monkeypatch, publish
):
    run = settings("lora", epochs=1)
    train_run(run, output)
    place = tmp_path / "place"
    with monkeypatch.context() as patch:
        disk = Disk(place, patch)
        publish(output / "runs" / run.name, place / "whole")
    assert disk.files >= 2
    for number in range(1, disk.files + 1):
        with monkeypatch.context() as patch:
            Disk(place, patch, refused=number)
            with pytest.raises((OSError, SafetensorError)) as caught:
                publish(output / "runs" / run.name, place / "other")
        assert is_want_of_room(caught.value)
        assert [each.name for each in place.iterdir()] == ["whole"]


@pytest.mark.parametrize("publish", [publish_lora, publish_merged])
def test_a_damaged_adapter_is_refused_by_name(settings, output, tmp_path, publish):
    run = settings("lora")
    train_run(run, output)
    weights = output / "runs" / run.name / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(AdapterError, match=r"(cannot be read|is damaged)"):
        publish(output / "runs" / run.name, tmp_path / "lora")
    assert not (tmp_path / "lora").exists()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A run whose head trains beside the adapter and is saved with it."""
    folder = tmp_path_factory.mktemp("glue")
    root = write_mrpc(folder / "data", train=12, dev=8, test_labelled=8)
    model = make_bert(folder / "bert", ["train 1 other train 2"])
    options = {
        "task": {"name": "mrpc", "model": model, "data_root": str(root), "max_length": 64},
        "method": {"name": "delora", "r": 2},
        "training": {"epochs": 1, "batch_size": 4, "learning_rate": 0.1},
    }
    run = load_recipe("glue-tutorial", options).run()
    train_run(run, folder / "out")
    return folder / "out" / "runs" / run.name


def test_a_head_is_compared_before_it_is_set_apart(classifier, tmp_path):
    published = publish_lora(classifier, tmp_path / "lora", target="gguf-ready")
    assert published.largest_difference < 1e-5
    assert published.lora.notes == ()
    head = load_file(tmp_path / "lora" / HEAD)
    assert {"base_model.model.classifier.weight", "base_model.model.classifier.bias"} <= set(head)
    factors = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    assert all(".lora_" in name for name in factors)


def test_what_servers_ask_is_said_and_stands_in_the_card(classifier, tmp_path, capsys):
    assert main(["export", str(classifier), "--output", str(tmp_path / "lora")]) == 0
    assert "note: vLLM takes no modules_to_save" in capsys.readouterr().out
    assert "- vLLM takes no modules_to_save" in (tmp_path / "lora" / "README.md").read_text()


def run_the_code_of_the_card(directory):
    """Return what the Python block of the card in a directory calls ``model``."""
    card = (directory / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("DIRECTORY", str(directory)), names)
    return names["model"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("publish", [publish_lora, publish_merged])
def test_the_card_loads_a_classifier_that_answers_as_the_run(classifier, tmp_path, publish):
    publish(classifier, tmp_path / "out")
    opened = FinishedRun.open(classifier)
    (batch,) = opened.splits.validation.batches(8)
    expected = opened.trained_model().eval()(**batch)["logits"]
    loaded = run_the_code_of_the_card(tmp_path / "out").eval()
    torch.testing.assert_close(loaded(**batch)["logits"], expected, rtol=1e-4, atol=1e-4)
    if publish is publish_lora:
        assert isinstance(loaded, PeftModelForSequenceClassification)
        config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
        assert config["task_type"] == "SEQ_CLS"


def test_no_code_is_given_for_a_model_whose_head_is_set_apart(classifier, tmp_path):
    publish_lora(classifier, tmp_path / "lora", target="gguf-ready")
    assert "```python" not in (tmp_path / "lora" / "README.md").read_text()


def test_merged_weights_carry_the_tokenizer(classifier, tmp_path):
    publish_merged(classifier, tmp_path / "merged")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "merged")("train 1", return_tensors="pt")
    assert merged(**tokens).logits.shape == (1, 2)


def test_a_run_whose_own_outputs_are_not_finite_is_named(settings, output, tmp_path, monkeypatch):
    run = settings("lora")
    train_run(run, output)
    trained = FinishedRun.trained_model

    def broken(self):
        model = trained(self)
        model.get_base_model().layers[-1].bias.data.fill_(float("inf"))
        return model

    monkeypatch.setattr(FinishedRun, "trained_model", broken)
    with pytest.raises(AdapterError, match=r"outputs of .* itself are not finite"):
        publish_lora(output / "runs" / run.name, tmp_path / "lora")
    assert not (tmp_path / "lora").exists()
