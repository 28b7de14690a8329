"""The public names, that importing them costs little, and that PEFT still learns our types."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

import pytest

import rankwise

NAMES = [
    "BoundaryMatching",
    "Chain",
    "ChainCallback",
    "DeloraConfig",
    "FoldBelow",
    "LoraXSConfig",
    "RankwiseError",
    "UpdateApproximation",
    "__version__",
    "examine",
    "export_lora",
    "functional",
    "fuse",
    "initialize",
    "muon",
    "parameter_groups",
    "place_ranks",
    "unfuse",
]
HEAVY = ("torch", "transformers", "peft", "numpy", "scipy", "pydantic", "rich", "yaml")


def ask(code: str) -> object:
    """Run ``code`` in a process of its own, and return what it assigns to ``answer``."""
    code = f"{code}\nimport json; print(json.dumps(answer))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    return json.loads(run.stdout)


def test_the_public_names_are_these_and_no_others_are_shown():
    assert rankwise.__all__ == NAMES
    assert dir(rankwise) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there(name):
    assert getattr(rankwise, name) is not None


def test_a_chain_is_found_in_its_folder_too():
    from rankwise.methods.chain import Chain

    assert Chain is rankwise.Chain


def test_the_version_is_that_of_the_package():
    assert rankwise.__version__ == metadata.version("rankwise")


def test_a_source_tree_that_is_not_installed_says_so(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert rankwise.__version__ == "0+uninstalled"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'rankwise' has no attribute 'nonsense'"):
        _ = rankwise.nonsense


@pytest.mark.processes
def test_importing_rankwise_imports_nothing_that_is_heavy():
    code = f"import rankwise, sys; answer = [m for m in {HEAVY} if m in sys.modules]"
    assert ask(code) == []


@pytest.mark.processes
def test_importing_rankwise_beside_peft_adds_its_adapters_alone():
    code = (
        "import logging; logging.disable()\n"
        "import peft, sys; before = set(sys.modules); import rankwise\n"
        "answer = sorted(set(sys.modules) - before)"
    )
    added = ask(code)
    assert isinstance(added, list)
    packages = {name.partition(".")[0] for name in added}
    assert not packages & {"sklearn", "scipy", "pydantic", "pandas", "yaml", "rich", "datasets"}
    assert "transformers.trainer" not in added
    own = {name.split(".")[1] for name in added if name.startswith("rankwise.")}
    assert own == {"capture", "core", "functional", "methods"}


# What is imported first must not matter; each begins with an import that PEFT's own waits behind.
ORDERS = (
    "import rankwise, peft",
    "import peft, rankwise",
    "import rankwise.methods.adapters.bridge",
    "from rankwise.methods.chain.config import ChainConfig",
    "from rankwise import DeloraConfig",
)


@pytest.mark.processes
@pytest.mark.parametrize("first", ORDERS)
def test_peft_loads_our_adapters_whatever_is_imported_first(first, tmp_path):
    from peft import get_peft_model
    from torch import nn

    config = rankwise.LoraXSConfig(r=2, target_modules=["0"])
    get_peft_model(nn.Sequential(nn.Linear(4, 4)), config).save_pretrained(str(tmp_path))
    code = f"""
import logging; logging.disable()
{first}
from peft import PeftModel
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import nn
model = PeftModel.from_pretrained(nn.Sequential(nn.Linear(4, 4)), {str(tmp_path)!r})
answer = [type(model.peft_config["default"]).__name__]
types = [getattr(key, "value", key) for key in PEFT_TYPE_TO_CONFIG_MAPPING]
answer += sorted(each for each in types if "RANKWISE" in each)
"""
    types = ["RANKWISE_CHAIN", "RANKWISE_DECOUPLED", "RANKWISE_XS"]
    assert ask(code) == ["LoraXSConfig", *types]
