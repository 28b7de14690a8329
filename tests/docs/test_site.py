"""What the site makes by itself: the reference pages and the formulas."""

from __future__ import annotations

import importlib.util

import pytest
from mkdocs.exceptions import PluginError

from rankwise.cli.commands import COMMANDS
from rankwise.methods.table import METHODS
from rankwise.training.settings.catalogue import all_settings
from tests.docs.pages import ROOT


def loaded(name):
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / f"scripts/site/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference():
    return loaded("reference")


def test_the_page_of_settings_has_each_with_its_meaning_and_default(reference):
    page = reference.settings_page()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(all_settings())
    (rate,) = [row for row in rows if row.startswith("| `training.learning_rate`")]
    assert "| `0.001` |" in rate
    assert "unit: per step" in rate
    assert "after warm-up" in rate


def test_the_page_of_commands_has_each_with_its_arguments(reference):
    page = reference.commands_page()
    for name in COMMANDS:
        assert f"\n## {name}\n" in page
    assert "`--workers-per-gpu WORKERS_PER_GPU`" in page


def test_the_page_of_names_has_each_method(reference):
    page = reference.names_page()
    assert all(f"| `{name}` |" in page for name in METHODS)


def test_formulas_become_mathml():
    typeset = loaded("typesetting").on_page_content
    page = r'so <span class="arithmatex">\(a &lt; B^\top\)</span>, and code \(x\)'
    found = typeset(page)
    assert found.startswith('so <math xmlns="http://www.w3.org/1998/Math/MathML" display="inline">')
    assert "&lt;" in found or "&#x0003C;" in found
    assert found.endswith(r", and code \(x\)")


def test_a_formula_that_would_be_set_wrong_is_an_error():
    with pytest.raises(PluginError, match="needs empty lines around it"):
        loaded("typesetting").on_page_content(r'$<span class="arithmatex">\(a\)</span>$')
