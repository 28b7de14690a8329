"""A folder with its card on the Hub, through ``huggingface_hub``."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import (
    HFValidationError,
    # Of its own HTTP library, which is another one from version to version.
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]
)

from rankwise.core.errors import ModelError, SettingsError

CARD = "README.md"


def check_login() -> None:
    """Refuse to begin without a token, before anything is exported.

    Raises:
        ModelError: There is none.
    """
    if get_token() is None:
        raise ModelError("no token of the Hub is there: run `hf auth login`, or set HF_TOKEN")


def push_folder(folder: Path, repo: str, *, is_private: bool) -> str:
    """Upload a folder to the repository ``repo``, made if there is none; return its address.

    Raises:
        ModelError: The Hub refuses, or cannot be reached.
        SettingsError: ``repo`` is no name of a repository, or the folder has no card.
    """
    if not (folder / CARD).is_file():
        raise SettingsError(
            f"{folder} has no {CARD}, the card that the Hub shows: name a run, or what "
            "`rankwise export` wrote"
        )
    api = HfApi()
    try:
        address = api.create_repo(repo, private=is_private, exist_ok=True)
        api.upload_folder(
            repo_id=address.repo_id,
            folder_path=folder,
            commit_message="Upload by Rankwise",
        )
    except HFValidationError as error:
        raise SettingsError(f"{repo!r} is no name of a repository, OWNER/NAME: {error}") from error
    except HTTPError as error:
        raise ModelError(f"the Hub did not take {folder} as {repo}: {error}") from error
    return str(address)
