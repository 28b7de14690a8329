"""Images that the rows of a table name by their paths: where they may lie.

A table may come from anywhere, so a name has to stay in the folder of the table, or in
``task.image_folder``: as it is written, with its steps upwards taken out. Links on the way are
followed, for rows cannot make any: whoever keeps the folder has put them there, as DVC does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rankwise.core.errors import DataError
from rankwise.tasks.own.source import HUB, Source, is_image_folder


@dataclass(frozen=True)
class NamedImages:
    """Where images lie that rows name.

    Attributes:
        folders: Where names are looked for and have to stay; none: as they are found anywhere.
    """

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, source: Source, image_folder: str | None) -> NamedImages:
        """Return the folder of images first, if there is one, then those of the data, or caches.

        Images in one folder a class are named by no row, and found by looking. A data set of the
        Hub is fetched into caches of ``datasets`` and of ``huggingface_hub``.

        Raises:
            DataError: The folder of images is not there, or of no use.
        """
        folders = _folders_of(source)
        if image_folder is None:
            return cls(tuple(folders))
        if not folders:
            raise DataError(
                f"task.image_folder is {image_folder}, but {source.data} holds images and no table "
                "that names them: leave it out"
            )
        if not Path(image_folder).is_dir():
            raise DataError(f"task.image_folder: there is no folder {image_folder}")
        return cls(tuple(dict.fromkeys([Path(image_folder), *folders])))

    def find(self, name: str, *, place: str) -> Path:
        """Return the file that a row names: beside its table, or else from where we stand.

        Raises:
            DataError: It leads out of the folders, or is in none of them, or is no name of a file.
        """
        if not self.folders:
            return Path(name)
        try:
            return self._found(name, place)
        except DataError:
            raise
        except (OSError, ValueError) as error:  # too long a name, a folder that may not be read
            reason = getattr(error, "strerror", None) or str(error)
            raise DataError(
                f"{place}: its image {name!r:.100} cannot be looked for ({reason}): name a file, "
                "or hold its bytes in the table"
            ) from None

    def _found(self, name: str, place: str) -> Path:
        tried = [folder / name for folder in self.folders] + [Path(name)]
        inside = [found for each in tried if (found := self._inside(each)) is not None]
        if not inside:
            raise DataError(
                f"{place}: its image {name} leads out of {_listed(self.folders)}: say where images "
                "lie by --task.image_folder, put a link to them into the folder of the file that "
                "names them, or hold their bytes in it"
            )
        there = [each for each in inside if each.is_file()]
        if not there:
            raise DataError(
                f"{place}: its image cannot be read: there is no file {name} in "
                f"{_listed(self.folders)}; --task.image_folder says where else images lie"
            )
        return there[0]

    def _inside(self, path: Path) -> Path | None:
        """Return the file that may be opened for a path; None if it leads out of the folders."""
        written, end = Path(os.path.abspath(path)), path.resolve()
        if any(written.is_relative_to(os.path.abspath(folder)) for folder in self.folders):
            return written
        # Either may have been written by way of a link above both.
        return end if any(map(end.is_relative_to, map(Path.resolve, self.folders))) else None


def _folders_of(source: Source) -> list[Path]:
    named = [name for name in (source.data, source.validation, source.test) if name is not None]
    paths = [Path(name) for name in named if not name.startswith(HUB)]
    folders = [path if path.is_dir() else path.parent for path in paths if path.exists()]
    if any(name.startswith(HUB) for name in named):
        from datasets import config
        from huggingface_hub import constants

        caches = config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH
        folders += map(Path, (*caches, constants.HF_HUB_CACHE))
    elif all(map(is_image_folder, map(str, folders))):
        return []
    return list(dict.fromkeys(folders))


def _listed(folders: Sequence[Path]) -> str:
    return " and ".join(map(str, folders))
