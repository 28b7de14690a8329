"""The Python of tutorials and guides runs as it stands there, on a tiny model and made-up rows.

Blocks of one page follow one another. What a page takes for granted is in ``GIVEN``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import transformers

import rankwise
from rankwise.cli.main import main
from tests.docs.pages import DOCS, blocks, commands, name_of
from tests.models.language import batches, language_model, sentences, tokenizer

pytestmark = pytest.mark.runs

# What it adds stays in the process.
PLUGIN = DOCS / "guides" / "extend.md"
ELSEWHERE = [PLUGIN, DOCS / "guides" / "diffusion.md"]  # run by tests/methods/test_diffusion.py
PAGES = [
    page
    for folder in ("tutorials", "guides", "explanation")
    for page in sorted((DOCS / folder).glob("*.md"))
    if blocks(page, "python") and page not in ELSEWHERE
]
SHORT = "max_steps=2, report_to=[], use_cpu=True"
# How long trainings are is the pages' own business; here they are short.
SHORTENED = {
    'TrainingArguments("trained", ': f'TrainingArguments("trained", {SHORT}, '
    "dataloader_pin_memory=False, ",
    'SFTConfig("out")': f'SFTConfig("out", {SHORT}, bf16=False)',
    'DPOConfig("out")': f'DPOConfig("out", {SHORT}, bf16=False)',
}
GIVEN = {
    "docs/guides/train-anywhere.md": lambda: {
        "base": wide_model(),
        "batches": batches(),
        "tokenizer": tokenizer(),
        "texts": datasets.Dataset.from_list([{"text": text} for text in sentences()]),
        "pairs": datasets.Dataset.from_dict(
            {name: sentences()[:8] for name in ("prompt", "chosen", "rejected")}
        ),
        "AutoModelForCausalLM": transformers.AutoModelForCausalLM,
        "BitsAndBytesConfig": transformers.BitsAndBytesConfig,
    },
    "docs/guides/quantised.md": lambda: {"batches": batches()},
}


def wide_model():
    """Its sides are multiples of 64, for adapters of that rank and for weights of four bits."""
    return language_model(hidden_size=64, intermediate_size=128)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    wide_model().save_pretrained(folder)
    return folder


@pytest.fixture
def elsewhere(tmp_path, monkeypatch, model_folder):
    """What pages fetch or have made by a command before, made here."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, tmp_path / "path/to/model")
    rows = [{"question": text, "answer": text} for text in sentences()[:48]]
    load = transformers.AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM,
        "from_pretrained",
        lambda name, **options: load(name, **options) if options else wide_model(),
    )
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda _: tokenizer())
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(rows))
    return tmp_path


def shortened(block: str) -> str:
    for words, short in SHORTENED.items():
        block = block.replace(words, short)
    return block


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_a_page_runs(page, elsewhere):
    given, names = GIVEN.get(name_of(page), dict), {}
    for block in blocks(page, "python"):
        names |= given()
        exec(shortened(block), names)


@pytest.fixture(autouse=True)
def started(request, elsewhere):
    """Run what comes before the Python of a page on starts for any trainer."""
    if "train-anywhere" in request.node.name:
        words, *_ = commands(DOCS / "guides" / "train-anywhere.md")
        assert main(words) == 0


@pytest.mark.slow
@pytest.mark.processes
def test_the_plugin_of_the_guide_adds_what_it_says(tmp_path):
    (tmp_path / "my_package").mkdir()
    module = "\n".join(blocks(PLUGIN, "python"))
    (tmp_path / "my_package" / "my_module.py").write_text(module, encoding="utf-8")
    ((*plugin, _, _),) = commands(PLUGIN)
    assert plugin == ["--plugin", "my_package.my_module"]
    run = ["train", "digits", "--task.pretrain_epochs", "1", "--epochs", "1"]
    method = ["--method.name", "my-chain", "--method.schedule.sketch", "signs"]
    one_block = ["--method.schedule.every_epochs", "1", "--method.init.kind", "halved"]
    path = os.pathsep.join([str(Path(rankwise.__file__).parents[1]), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-m", "rankwise", *plugin, *run, *method, *one_block],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.glob("runs/digits/runs/*/record.json")
    assert '"signs"' in record.read_text(encoding="utf-8")
