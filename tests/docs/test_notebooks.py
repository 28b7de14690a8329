"""The notebooks run from their first cell to their last, at toy size."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from rankwise.cli.main import main
from tests.docs.pages import DOCS, blocks
from tests.docs.test_python import elsewhere, model_folder, shortened  # noqa: F401

NOTEBOOKS = DOCS / "notebooks"
_SHELL = re.compile(r"^!rankwise ((?:[^\n]*\\\n)*[^\n]*)$", re.MULTILINE)
SMALLER = {
    'rates = "0.003,0.01,0.03"': 'rates = "0.01"',
    'methods = "lora,lora-sb,rac-lora"': 'methods = "lora,rac-lora"',
    'seeds = "0,1,2"': 'seeds = "0,1"',
    "--compare.widenings 1": "--compare.widenings 0 --workers 1 --epochs 2 "
    "--task.pretrain_epochs 2",
}


def code_cells(name):
    cells = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run(cells):
    """Run cells as IPython does; a line that begins with ``!rankwise`` is a command."""

    def as_call(found):
        words = shlex.split(found[1].replace("\\\n", " "))
        return f"assert rankwise_main([word.format_map(globals()) for word in {words}]) == 0"

    names = {"rankwise_main": main}
    for cell in cells:
        exec(_SHELL.sub(as_call, cell), names)
    return names


def smaller(cell):
    for words, small in SMALLER.items():
        cell = cell.replace(words, small)
    return cell


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lora_sb_on_a_causal_language_model(elsewhere):  # noqa: F811
    names = run([shortened(cell) for cell in code_cells("lora-sb.ipynb")])
    assert (elsewhere / "exported" / "adapter_model.safetensors").exists()
    assert names["report"].layers


def test_its_code_is_that_of_the_tutorial():
    tutorial = blocks(DOCS / "tutorials" / "first-lora-sb.md", "python")
    assert code_cells("lora-sb.ipynb") == [block.strip("\n") for block in tutorial]


@pytest.mark.processes
@pytest.mark.usefixtures("forked_workers")
def test_a_comparison(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = run(map(smaller, code_cells("comparison.ipynb")))
    assert len(names["summary"].methods) == 2
    printed = capsys.readouterr().out
    assert re.search(r"rac-lora r=2, left +[+-]\d+\.\d points \(", printed)
