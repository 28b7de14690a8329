"""Data sets of the Hub, by the ``datasets`` package and its cache: fetched once, offline after."""

from __future__ import annotations

from typing import Any

from rankwise.core.errors import DataError


def fetch_split(dataset: str, split: str, *, configuration: str | None = None, place: str) -> Any:
    """Return a split as a ``datasets.Dataset``; errors call it ``place``.

    ``dataset`` may also be the ``hf://`` address of a JSON file, for data sets whose own loader is
    a script, which ``datasets`` runs no more; it has no split and no configuration.

    Raises:
        DataError: It cannot be fetched.
    """
    # Takes a second to import, and is of use only where rows come from the Hub.
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        if dataset.startswith("hf://"):
            return load_dataset("json", data_files=dataset, split="train")
        return load_dataset(dataset, configuration, split=split)
    # A script in the place of data is a RuntimeError.
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{place} cannot be fetched ({type(error).__name__}: {error}): go online once, or name "
            "a folder with local files by task.data_root or RANKWISE_DATA"
        ) from error
