"""An action behind the import of a package, tried on a package made for it."""

from __future__ import annotations

import importlib
import importlib.resources
import importlib.util
import sys

import pytest

from rankwise.core.import_hook import run_after_import


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The name of a package that can be imported and is not; its path is as before afterwards."""
    name = "rankwise_waits_for_me"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("done = []\nfrom . import part\n")
    (tmp_path / name / "part.py").write_text("")
    (tmp_path / name / "data.txt").write_text("read")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield name
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def test_the_action_runs_once_and_behind_the_package(package):
    seen = []
    run_after_import(package, lambda: seen.append(f"{package}.part" in sys.modules))
    assert seen == []
    importlib.import_module(package)
    importlib.reload(sys.modules[package])
    assert seen == [True]


def test_it_runs_at_once_where_the_package_is_imported(package):
    importlib.import_module(package)
    seen = []
    run_after_import(package, lambda: seen.append(1))
    assert seen == [1]


def test_who_only_asks_whether_it_is_there_starts_nothing(package):
    seen = []
    run_after_import(package, lambda: seen.append(1))
    assert importlib.util.find_spec(package) is not None
    assert (seen, package in sys.modules) == ([], False)
    importlib.import_module(package)
    assert seen == [1]


def test_the_imported_package_is_as_if_nobody_had_waited(package):
    before = list(sys.meta_path)
    run_after_import(package, lambda: None)
    module = importlib.import_module(package)
    assert sys.meta_path == before
    loader = module.__spec__.loader
    assert module.__loader__ is loader
    assert type(loader).__module__.startswith("_frozen_importlib")
    assert importlib.resources.files(package).joinpath("data.txt").read_text() == "read"


def test_actions_of_several_all_run(package):
    seen = []
    run_after_import(package, lambda: seen.append("first"))
    run_after_import(package, lambda: seen.append("second"))
    importlib.import_module(package)
    assert sorted(seen) == ["first", "second"]


def test_what_goes_wrong_in_the_action_is_seen_by_who_imports(package):
    def fails():
        raise ImportError("an adapter of another version")

    run_after_import(package, fails)
    with pytest.raises(ImportError, match="an adapter of another version"):
        importlib.import_module(package)


def test_a_package_that_is_not_there_is_missed_as_ever():
    run_after_import("rankwise_nowhere", lambda: None)
    with pytest.raises(ModuleNotFoundError, match="rankwise_nowhere"):
        importlib.import_module("rankwise_nowhere")
    sys.meta_path.pop(0)
