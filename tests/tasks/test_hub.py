"""A Hub that is silent is asked once; then the cache is all there is."""

from __future__ import annotations

import datasets
import pytest

from rankwise.core.errors import DataError
from rankwise.tasks.hub import fetch_split
from rankwise.tasks.own.source import Source, read_source

SILENT = r"has not been fetched before, and the Hub cannot be reached: http://127"


@pytest.fixture(autouse=True)
def online(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def test_data_of_a_hub_that_does_not_answer_are_asked_for_once(hub):
    with pytest.raises(DataError, match=rf"hub:owner/name cannot be read .*{SILENT}"):
        read_source(Source("hub:owner/name"))
    assert len(hub) == 1
    assert b"/datasets/owner/name/" in hub[0]


@pytest.mark.parametrize(
    ("dataset", "asked"),
    [
        ("owner/name", b"/datasets/owner/name/"),
        ("hf://spaces/owner/name/folder/file.json", b"/spaces/owner/name/"),
    ],
)
def test_so_are_those_of_the_tasks_of_papers(hub, dataset, asked):
    with pytest.raises(DataError, match=rf"the rows cannot be fetched .*{SILENT}.*data_root"):
        fetch_split(dataset, "test", place="the rows")
    assert len(hub) == 1
    assert asked in hub[0]


def test_what_the_cache_holds_is_read_without_asking_again(hub, monkeypatch):
    def cached(*_, **__):
        assert datasets.config.HF_HUB_OFFLINE
        return {"train": datasets.Dataset.from_dict({"text": ["kept"]})}

    monkeypatch.setattr(datasets, "load_dataset", cached)
    assert read_source(Source("hub:owner/kept"))["train"][0] == {"text": "kept"}
    assert len(hub) == 1
    assert not datasets.config.HF_HUB_OFFLINE
