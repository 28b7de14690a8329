"""Files and functions stay as long as one can read at a sitting."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "tests", "benchmarks", "scripts")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
SOURCES = [path for path in FILES if path.is_relative_to(ROOT / "src")]


def named(path):
    return str(path.relative_to(ROOT))


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def lines_of(function):
    """Its lines without those of its docstring."""
    docstring = ast.get_docstring(function, clean=False) or ""
    return function.end_lineno - function.lineno + 1 - len(docstring.splitlines())


def test_the_folders_are_there():
    assert len(SOURCES) > 200
    assert len(FILES) > 2 * len(SOURCES)


def test_no_file_has_more_than_400_lines():
    long = [named(path) for path in FILES if path.read_text(encoding="utf-8").count("\n") > 400]
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_no_function_has_more_than_50_lines_beside_its_docstring(path):
    assert not [each.name for each in functions(path) if lines_of(each) > 50]
