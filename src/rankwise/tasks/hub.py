"""Data sets of the Hub, by the ``datasets`` package and its cache: fetched once, offline after."""

from __future__ import annotations

from typing import Any

from rankwise.core.errors import DataError


def fetch_split(dataset: str, split: str, *, configuration: str | None = None, place: str) -> Any:
    """Return a split as a ``datasets.Dataset``; errors call it ``place``.

    Raises:
        DataError: It cannot be fetched.
    """
    # Takes a second to import, and is of use only where rows come from the Hub.
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        return load_dataset(dataset, configuration, split=split)
    except (DatasetsError, OSError, ValueError) as error:
        raise DataError(
            f"{place} cannot be fetched ({type(error).__name__}: {error}): go online once, or name "
            "a folder with local files by task.data_root or RANKWISE_DATA"
        ) from error
