"""Help, lists, pages and mistakes need no torch: what each command imports, in its own process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from rankwise.comparison.folder import write_summary
from rankwise.training.folder import RunFolder
from tests.comparison.report_records import made_up_comparison

pytestmark = pytest.mark.processes

HELP = (["--help"], ["compare", "--help"], ["--version"])
LISTS = (["list", "methods"], ["list", "--json"], ["show", "digits"], ["help", "lr"], ["schema"])
MISTAKES = (
    ["train", "digit"],
    ["train", "digits", "--training.rate", "1"],
    ["train", "digits", "--lr", "-1"],
    ["init", "digits", "--output", "o", "--training.epochs", "many"],
    ["doctor", "digits", "--method.name", "lorra"],
    ["compare", "digits", "--compare.baseline", "nobody"],
    ["compare", "digits", "--vary", "nothing"],
    ["compare", "digits", "--address", "here"],
    ["federate", "digits-federated", "--federated.clients", "0"],
    ["evaluate", "nowhere"],
    ["export", "nowhere", "--output", "o"],
    ["report", "nowhere"],
    ["list", "methods", "--seed", "1"],
    ["nothing"],
)
# What one of them imports is there for all behind it, so the first to fail is at fault.
CODE = """
import contextlib, io, json, sys
from rankwise.cli.main import main
heavy = ("torch", "transformers", "peft", "numpy", "scipy", "sklearn", "datasets")
for words in json.loads(sys.argv[1]):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code
    loaded = [name for name in heavy if name in sys.modules]
    print(json.dumps([code, printed.getvalue(), loaded]))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Exit code, text and heavy modules after each command, all run in one process."""
    folder = tmp_path_factory.mktemp("empty")
    comparison = made_up_comparison()
    page = tmp_path_factory.mktemp("comparison")
    runs = tuple(run.run for run in comparison.runs)
    write_summary(page, comparison.summary.model_copy(update={"runs": runs}))
    for run in comparison.runs:
        run.write(RunFolder.below(page, run.run).record)
    words = [*HELP, *LISTS, *MISTAKES, ["report", str(page)]]
    command = [sys.executable, "-c", CODE, json.dumps(words)]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    answers = dict(zip(map(tuple, words), map(json.loads, run.stdout.splitlines()), strict=True))
    return {"answers": answers, "folder": folder, "page": page}


@pytest.mark.parametrize("words", HELP + LISTS)
def test_help_and_lists_are_cheap(seen, words):
    code, text, loaded = seen["answers"][tuple(words)]
    assert (code, loaded) == (0, [])
    assert text


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_cheap(seen, words):
    code, text, loaded = seen["answers"][tuple(words)]
    assert (code, loaded) == (2, [])
    assert "error: " in text


def test_a_mistake_leaves_no_folder(seen):
    assert not list(seen["folder"].iterdir())


def test_a_page_is_rebuilt_cheaply(seen):
    code, text, loaded = seen["answers"]["report", str(seen["page"])]
    assert (code, loaded) == (0, [])
    assert "report.html" in text
    assert (seen["page"] / "report.html").stat().st_size > 1_000_000
