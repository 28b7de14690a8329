"""The lowest versions that the metadata allows are those that `make test-lowest` installs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("report", "quant", "generation", "completion", "rouge", "gguf", "test")


def declared() -> dict[str, Requirement]:
    """Map the packages of the base and of the extras of the tests to what is asked of them."""
    texts = [
        *PROJECT["dependencies"],
        *(text for extra in EXTRAS for text in PROJECT["optional-dependencies"][extra]),
    ]
    found = [Requirement(text) for text in texts if not text.startswith("rankwise")]
    return {each.name: each for each in found}


def pinned(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {each.name: each for each in found}


def test_the_lowest_set_is_every_lower_bound():
    lowest = pinned("constraints-lowest.txt")
    assert lowest.keys() == declared().keys()
    for name, requirement in declared().items():
        (bound,) = [each.version for each in requirement.specifier if each.operator == ">="]
        assert Version(str(lowest[name].specifier).removeprefix("==")) == Version(bound), name


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-newest.txt"])
def test_other_sets_lie_within_what_is_allowed(file):
    sets = pinned(file)
    for name, requirement in declared().items():
        if name not in sets:
            continue
        for each in sets[name].specifier:
            assert requirement.specifier.contains(each.version, prereleases=True), name
