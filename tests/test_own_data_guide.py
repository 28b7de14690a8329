"""The commands of the guide to one's own data run as they stand there, on files of a few rows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import datasets
import pytest

from rankwise.cli.main import main
from tests.docs.own_data import fill

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "guides" / "own-data.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
# So that a comparison is over soon; the guide's own words stay.
SHORT = {
    "train": ["--training.epochs", "1"],
    "compare": [
        *("--training.epochs", "1", "--compare.learning_rates", "0.001", "--compare.seeds", "0"),
        *("--compare.methods", "lora,lora-sb", "--compare.widenings", "0", "--workers", "1"),
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the guide takes for granted."""
    return fill(tmp_path_factory.mktemp("own-data"))


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_guide_runs(folder, monkeypatch, capsys, command):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    program, name, *words = shlex.split(command)
    assert program == "rankwise"
    assert main([name, *words, *SHORT.get(name, [])]) == 0, capsys.readouterr().err


def test_the_guide_has_commands():
    assert len(COMMANDS) >= 8
