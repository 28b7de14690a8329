"""A plugin's adapter, init, sketch, task, metric and methods go through every command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import rankwise
from rankwise.core.errors import SettingsError
from rankwise.core.plugins import check_plugins, load_plugins

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[2]
END = "the end of a command:"
RECIPE = {
    "plugins": ["tests.plugins.toy"],
    "task": {"name": "toy-half-digits"},
    "method": {"name": "toy-diagonal", "r": 2},
    "training": {"epochs": 2, "loop": "lean"},
    "compare": {
        "methods": [
            {"name": "lora", "r": 2},
            {"name": "toy-diagonal", "r": 2},
            {"name": "toy-chain", "r": 2, "schedule": {"every_epochs": 1}},
        ],
        "learning_rates": [0.01],
        "seeds": [0],
        "widenings": 0,
    },
}


SCRIPT = f"""
import json, sys
from rankwise.cli.main import main
for words in json.loads(sys.argv[1]):
    code = main(words)
    print("{END}", code, flush=True)
"""


def commands(*lines, folder):
    """The exit code and what was printed of each command; all in one process of their own."""
    path = os.pathsep.join([str(Path(rankwise.__file__).parents[1]), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-u", "-c", SCRIPT, json.dumps(lines)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    printed = re.split(rf"{END} (\d+)\n", done.stdout)
    return [(int(code), text) for text, code in zip(printed[::2], printed[1::2])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "toy.yaml").write_text(yaml.safe_dump(RECIPE))
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    ((code, printed),) = commands(("train", "toy.yaml", "--output", "trained"), folder=folder)
    assert code == 0, printed
    (run,) = (folder / "trained" / "runs").iterdir()
    return run


@pytest.fixture(scope="module")
def told(trained, folder):
    """The exit codes and what is printed of commands that are told the plugin, by their names."""
    lines = {
        "evaluate": (str(trained),),
        "export": (str(trained), "--output", "exported"),
        "help": ("method.init.value",),
        "train": ("toy.yaml", "--output", "new", "--method.init.valu", "3"),
        "list": ("methods",),
    }
    words = [("--plugin", "tests.plugins.toy", name, *rest) for name, rest in lines.items()]
    return dict(zip(lines, commands(*words, folder=folder), strict=True))


def test_it_trains_by_a_recipe_that_names_it(trained):
    record = json.loads((trained / "record.json").read_text())
    assert record["metric"] == "toy-hits"
    settings = json.loads((trained / "settings.json").read_text())["settings"]
    assert settings["task"]["name"] == "toy-half-digits"
    assert settings["plugins"] == ["tests.plugins.toy"]


def test_a_record_alone_imports_nothing(trained, told, folder):
    (refused, missing) = commands(
        ("evaluate", str(trained)),
        ("--plugin", "no.such.module", "list", "methods"),
        folder=folder,
    )
    assert refused[0] == 2
    assert "rankwise --plugin tests.plugins.toy COMMAND" in refused[1]
    assert missing[0] == 2
    assert "there is no module 'no.such.module'" in missing[1]
    code, printed = told["evaluate"]
    assert code == 0, printed
    assert "toy-hits" in printed


def test_it_leaves_as_a_plain_lora(told, folder):
    code, printed = told["export"]
    assert code == 0, printed
    assert json.loads((folder / "exported" / "adapter_config.json").read_text())["r"] == 2


def test_its_methods_are_compared_in_workers(folder):
    words = ("compare", "toy.yaml", "--output", "compared", "--workers", "1")
    ((code, printed),) = commands(words, folder=folder)
    assert code == 0, printed
    summary = json.loads((folder / "compared" / "summary.json").read_text())
    assert {row["name"]: row["status"] for row in summary["methods"]} == {
        "lora": "done",
        "toy-diagonal": "done",
        "toy-chain": "done",
    }


def test_options_and_help_know_its_settings(told):
    helped, mistaken, listed = told["help"], told["train"], told["list"]
    assert helped[0] == 0, helped
    assert "where every d begins" in helped[1]
    assert (mistaken[0], "--method.init.value" in mistaken[1]) == (2, True)
    assert "toy-chain" in listed[1]


def test_a_module_that_is_not_there_is_told():
    with pytest.raises(SettingsError, match="add its folder to PYTHONPATH"):
        load_plugins(["no_such_module"])
    with pytest.raises(SettingsError, match="--plugin no_such_module"):
        check_plugins(["no_such_module"], what="the run")
