"""The setting goes before the environment, and what is named must exist."""

from __future__ import annotations

import pytest

from rankwise.core.errors import SettingsError
from rankwise.tasks.data_root import VARIABLE, find_data_root


def test_the_setting_goes_first(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "other"))
    assert find_data_root(tmp_path) == tmp_path


def test_then_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert find_data_root(None) == tmp_path


def test_or_nothing(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert find_data_root(None) is None


@pytest.mark.parametrize(
    ("by_setting", "source"), [(True, "task.data_root"), (False, "RANKWISE_DATA")]
)
def test_what_is_no_folder_is_refused(tmp_path, monkeypatch, by_setting, source):
    gone = tmp_path / "gone"
    monkeypatch.setenv(VARIABLE, str(gone))
    with pytest.raises(SettingsError, match=f"{source} names no folder: .*gone"):
        find_data_root(gone if by_setting else None)
