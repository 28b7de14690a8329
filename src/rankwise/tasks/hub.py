"""The Hub: asked once, for a few seconds; data sets come from it by ``datasets`` and its cache.

Without a network the libraries ask again and again, for half a minute and more, before they look
into their caches.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from rankwise.core.errors import DataError

ADDRESS = "hf://"

# How long the Hub has for its first answer, unless HF_HUB_ETAG_TIMEOUT says otherwise.
_SECONDS_TO_ANSWER = 5


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
        with hub_or_cache(dataset):
            if dataset.startswith(ADDRESS):
                return load_dataset("json", data_files=dataset, split="train")
            return load_dataset(dataset, configuration, split=split)
    # A script in the place of data is a RuntimeError.
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{place} cannot be fetched ({type(error).__name__}: {error}): go online once, or name "
            "a folder with local files by task.data_root or RANKWISE_DATA"
        ) from error


@contextlib.contextmanager
def hub_or_cache(dataset: str) -> Iterator[None]:
    """Keep ``datasets`` to its cache meanwhile if the Hub gives no answer.

    Args:
        dataset: OWNER/NAME, or the address of a file in it.

    Raises:
        ConnectionError: It cannot be reached, and the cache holds no such data set.
    """
    from datasets import config

    is_address = dataset.startswith(ADDRESS)
    kind, *names = (dataset if is_address else f"{ADDRESS}datasets/{dataset}")[5:].split("/")
    name, kind = "/".join(names[:2]), kind.removesuffix("s")
    silence = None if is_offline_mode() else silence_of_hub(name, "README.md", kind=kind)
    if silence is None:
        yield
        return
    before, config.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE, True
    try:
        if is_address:  # of which the cache knows no names
            raise ConnectionError
        yield
    except ConnectionError:
        raise ConnectionError(
            "it has not been fetched before, and the Hub cannot be reached: "
            + told_silence(silence)
        ) from None
    finally:
        config.HF_HUB_OFFLINE = before


def silence_of_hub(name: str, file: str, *, kind: str | None = None) -> Exception | None:
    """Ask the Hub once for a file of a model, or of another ``kind``; return why it was silent.

    None: it has answered, be it that there is no such thing, which is told where it is loaded.
    """
    has_own = "HF_HUB_ETAG_TIMEOUT" in os.environ
    seconds = constants.HF_HUB_ETAG_TIMEOUT if has_own else _SECONDS_TO_ANSWER
    try:
        get_hf_file_metadata(hf_hub_url(name, file, repo_type=kind), timeout=seconds)
    except (HfHubHTTPError, HFValidationError):
        return None
    except Exception as error:  # of its HTTP client, which is another one in other versions
        return error
    return None


def told_silence(error: Exception) -> str:
    """Say which Hub was silent, and why."""
    return f"{constants.ENDPOINT}: {type(error).__name__}: {error}"
