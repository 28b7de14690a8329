"""What a shell offers on TAB, asked as argcomplete's shell function asks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("argcomplete")
pytestmark = pytest.mark.processes


def offered(line, folder):
    """Return what may stand where ``line`` ends."""
    answer = folder / "answer"
    environment = os.environ | {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
    }
    code = "from rankwise.cli.main import main; main()"
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)
    return answer.read_text().splitlines()


@pytest.mark.parametrize(
    ("line", "words", "others"),
    [
        ("rankwise co", ["compare"], ["train"]),
        ("rankwise train di", ["digits", "digits-federated"], ["glue-tutorial", "--output"]),
        ("rankwise train digits --res", ["--resume"], ["--output"]),
        ("rankwise train digits --training.ep", ["--training.epochs"], ["--training.keep"]),
        ("rankwise train digits --federated.", [], ["--federated.rounds"]),
        ("rankwise federate digits --federated.ro", ["--federated.rounds"], []),
        ("rankwise train digits --training.keep ", ["best", "last"], ["digits"]),
        ("rankwise train digits --training.bf16 t", ["true"], ["false"]),
        ("rankwise train digits --method.name lora-", ["lora-sb", "lora-xs"], ["delora"]),
        ("rankwise list me", ["methods"], ["tasks"]),
    ],
)
def test_a_shell_is_offered_what_fits(line, words, others, tmp_path):
    found = [word.strip() for word in offered(line, tmp_path)]
    assert set(words) <= set(found)
    assert not set(others) & set(found)


def test_a_recipe_of_ones_own_is_offered_too(tmp_path):
    (tmp_path / "mine.yaml").touch()
    assert [word.strip() for word in offered("rankwise train mi", tmp_path)] == ["mine.yaml"]
