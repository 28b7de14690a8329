"""A base from a GGUF file: its weights, a run on it, its adapter, and a file that is not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import datasets
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rankwise.cli.main import main
from rankwise.core.errors import ModelError
from rankwise.methods.adapters.directory import read_config
from rankwise.tasks import pretrained
from rankwise.tasks.pretrained import from_pretrained
from tests.models.gguf_files import make_gguf
from tests.tasks.own.own_files import reviews, write_jsonl

pytest.importorskip("gguf")
TEXTS = [text for text, _ in reviews()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    make_gguf(folder, TEXTS)
    (folder / "carrier").mkdir()
    (folder / "carrier" / "__init__.py").touch()
    (folder / "carrier" / "tiny.gguf").write_bytes((folder / "tiny.gguf").read_bytes())
    rows = [{"prompt": f"is {text}?", "completion": label} for text, label in reviews()]
    write_jsonl(folder / "q.jsonl", rows)
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("name", ["tiny.gguf", "./tiny.gguf", "package:carrier/tiny.gguf"])
def test_the_weights_are_those_in_the_file_and_nothing_is_printed(folder, name, capfd):
    kind = AutoModelForCausalLM
    model = from_pretrained(kind, name)
    assert capfd.readouterr().err == ""
    plain = kind.from_pretrained(folder / "plain")
    tokens = torch.arange(12).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens)["logits"], plain(tokens)["logits"])
    assert model.name_or_path == name


def test_what_a_file_says_of_itself_is_read_once(tmp_path, folder, monkeypatch):
    read = []
    own = pretrained._read_gguf
    monkeypatch.setattr(pretrained, "_read_gguf", lambda file: read.append(file) or own(file))
    file = tmp_path / "once.gguf"
    shutil.copy(folder / "tiny.gguf", file)
    for kind in (AutoConfig, AutoTokenizer, AutoModelForCausalLM, AutoConfig):
        from_pretrained(kind, str(file))
    assert len(read) == 1


def test_its_configuration_is_read_again_only_where_the_file_has_changed(tmp_path, monkeypatch):
    wide = AutoConfig.from_pretrained("plain").hidden_size
    file, read, own = tmp_path / "tiny.gguf", [], pretrained._read_gguf
    file.write_bytes(Path("tiny.gguf").read_bytes())
    monkeypatch.setattr(pretrained, "_read_gguf", lambda file: read.append(file) or own(file))
    three = from_pretrained(AutoConfig, str(file), num_labels=3)
    plain = from_pretrained(AutoConfig, str(file))
    assert (three.num_labels, plain.num_labels, len(read)) == (3, 2, 1)
    assert plain.hidden_size == wide
    os.utime(file, (0, 0))
    from_pretrained(AutoConfig, str(file))
    assert len(read) == 2


@pytest.mark.parametrize("method", ["lora", "lora-sb"])
def test_a_run_trains_on_it_and_its_adapter_finds_it_again(folder, tmp_path, capsys, method):
    words = ["train", "q.jsonl", "--task.model", "tiny.gguf", "--output", str(tmp_path / "out")]
    words += ["--training.epochs", "1", "--method.name", method, "--method.r", "2"]
    assert main(words) == 0
    (run,) = (tmp_path / "out" / "runs").iterdir()
    assert read_config(run / "adapter")["base_model_name_or_path"] == "tiny.gguf"
    assert main(["export", str(run), "--output", str(tmp_path / "lora")]) == 0
    merged = tmp_path / "merged"
    assert main(["export", str(run), "--target", "merged", "--output", str(merged)]) == 0
    assert AutoModelForCausalLM.from_pretrained(merged).dtype == torch.float32
    capsys.readouterr()
    for place in (run, tmp_path / "lora"):
        assert main(["generate", str(place), "is it?", "--max-new-tokens", "4"]) == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./other.gguf", r"there is no file './other\.gguf'"),
        ("other.gguf", r"there is no file 'other\.gguf'"),
        ("package:carrier/other.gguf", r"no folder or \.gguf file 'other\.gguf'; there is tiny\.g"),
    ],
)
def test_a_file_that_is_not_there_is_named(name, message):
    with pytest.raises(ModelError, match=message):
        from_pretrained(AutoModelForCausalLM, name)


def test_what_reads_it_is_an_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"needs the package gguf: pip install 'rankwise\[gguf"):
        from_pretrained(AutoModelForCausalLM, "tiny.gguf")
