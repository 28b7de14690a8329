"""The public names, and that importing them costs little."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import rankwise

NAMES = [
    "BoundaryMatching",
    "Chain",
    "ChainCallback",
    "DeloraConfig",
    "LoraXSConfig",
    "RankwiseError",
    "UpdateApproximation",
    "__version__",
    "export_lora",
    "functional",
    "fuse",
    "initialize",
    "parameter_groups",
    "unfuse",
]


def test_the_public_names_are_these():
    assert rankwise.__all__ == NAMES
    assert set(NAMES) <= set(dir(rankwise))


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there(name):
    assert getattr(rankwise, name) is not None


def test_a_chain_is_found_in_its_folder_too():
    from rankwise.methods.chain import Chain

    assert Chain is rankwise.Chain


def test_the_version_is_that_of_the_package():
    assert rankwise.__version__ == version("rankwise")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'rankwise' has no attribute 'nonsense'"):
        _ = rankwise.nonsense


def modules_that_rankwise_adds() -> set[str]:
    code = (
        "import peft, sys; before = set(sys.modules); import rankwise;"
        "print('\\n'.join(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.processes
def test_importing_rankwise_adds_little_to_importing_peft():
    added = modules_that_rankwise_adds()
    packages = {name.partition(".")[0] for name in added}
    assert not packages & {"sklearn", "scipy", "pydantic", "pandas", "yaml", "rich", "datasets"}
    assert "transformers.trainer" not in added
    own = {name.split(".")[1] for name in added if name.startswith("rankwise.")}
    assert own == {"core", "functional", "methods"}
