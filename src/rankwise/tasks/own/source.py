"""Where rows of the user's own come from, and how they are read: by the ``datasets`` library.

A file is CSV, TSV, JSON, JSON Lines, Parquet or plain text, packed by gzip, bzip2 or xz if its name
says so. A folder holds such files, named after the splits (``train.csv``, ``dev.csv``), or images
in one folder a class. ``hub:OWNER/NAME`` is a data set of the Hub.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from rankwise.core.errors import DataError, nearest_names
from rankwise.core.library_noise import without_bars_of_datasets
from rankwise.tasks.hub import hub_or_cache
from rankwise.tasks.own.faults import check_file
from rankwise.tasks.packed import PACKED, PACKING_ERRORS, open_packed

Kind = Literal["csv", "json", "parquet", "text", "imagefolder"]
HUB = "hub:"
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_KINDS: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".txt": "text",
}
_DELIMITERS = (";", "\t", "|", ",")
_LONGEST_HEADING = 1 << 20  # bytes; a file may be one line
_OF_CELLS = (
    "; rows have different numbers of cells: quote cells that hold the delimiter, say what parts "
    "them by --task.delimiter, or that quotes are characters by --task.quotes false"
)
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Source:
    """What is read, and how.

    Attributes:
        data: A file, a folder, or ``hub:OWNER/NAME``.
        digest: What :func:`digest_of` gave when the recipe was made; None: not checked.
        config: The configuration of a data set of the Hub.
        train: The split that is trained on; None: the one called so, or the only one.
        validation: A split, or a file beside ``data``; None: the one called so, if there is one.
        test: Likewise.
        delimiter: Of a CSV file; None: a tab for .tsv and .tab, else a comma.
        has_quotes: Whether a CSV file quotes cells; if not, a quote is a character like others.
    """

    data: str
    digest: str | None = None
    config: str | None = None
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    delimiter: str | None = None
    has_quotes: bool = True


@lru_cache(maxsize=2)
def read_source(source: Source) -> dict[str, Any]:
    """Return the splits that there are, as ``datasets.Dataset``: train, and what else is given.

    Raises:
        DataError: A file is missing, broken, empty or another than when the recipe was made, or a
            split is not there.
    """
    found = _read(source, source.data)
    files = (source.data, source.validation, source.test)
    if source.digest is not None and (digest := digest_of(*files)) != source.digest:
        raise DataError(
            f"{source.data} is not what the recipe was made of: its SHA-256 was "
            f"{source.digest[:12]}… and is {digest[:12] if digest else 'unknown'}…: take the file "
            "of that time, or clear --task.data_digest null"
        )
    chosen = {"train": _chosen_train(source, found)}
    for split in ("validation", "test"):
        named: str | None = getattr(source, split)
        if named is None:
            name = _name_of(split, found)
            chosen |= {} if name is None or found[name] is chosen["train"] else {split: found[name]}
        elif named in found:
            chosen[split] = found[named]
        else:
            chosen[split] = _only_split(_read_beside(source, named, split, found), named)
    for split, rows in chosen.items():
        if not len(rows):
            raise DataError(f"{source.data} has no rows in its split {split}")
    return chosen


def digest_of(*named: str | None) -> str | None:
    """Return the SHA-256 of files, and of the names and bytes in folders; None if there are none.

    What is no path, a split or a data set of the Hub, does not count.
    """
    digest, has_any = hashlib.sha256(), False
    for name in named:
        path = Path(name or "")
        if name is None or name.startswith(HUB) or not path.exists():
            continue
        has_any = True
        for file in [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file()):
            digest.update(str(file.relative_to(path)).encode() + b"\0")
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest() if has_any else None


def kind_of(file: Path) -> Kind | None:
    """Return in what form a file is, by its name; None if it is none that is read."""
    suffix = _suffixes(file)
    return _KINDS.get(suffix)


def is_data(word: str) -> bool:
    """Say whether a word names data: a data set of the Hub, a folder, or a file that is read."""
    path = Path(word)
    return word.startswith(HUB) or path.is_dir() or kind_of(path) is not None


def is_image_folder(data: str) -> bool:
    """Say whether ``data`` is a folder with images below its folders, and with no other data."""
    path = Path(data)
    if data.startswith(HUB) or not path.is_dir() or any(_data_files(path)):
        return False
    return any(file.suffix.lower() in IMAGES for file in path.rglob("*"))


def guess_delimiter(data: str) -> str | None:
    """Return what parts the cells of a CSV file, if its first line has no comma (a TSV: no tab).

    Spreadsheets write semicolons where commas are decimal points. None: as its name says.
    """
    path = Path(data)
    files = [path] if path.is_file() else _data_files(path) if path.is_dir() else []
    for file in files:
        if kind_of(file) == "csv":
            heading = _first_line(file)
            if _usual_delimiter(file) in heading:
                return None
            return next((each for each in _DELIMITERS if each in heading), None)
    return None


def _first_line(file: Path) -> str:
    """Return it; nothing if the file is damaged, which is told where it is read."""
    try:
        with open_packed(file) as stream:
            return stream.readline(_LONGEST_HEADING).decode("utf-8", errors="replace")
    except PACKING_ERRORS:
        return ""


def _usual_delimiter(file: Path) -> str:
    return "\t" if _suffixes(file) in (".tsv", ".tab") else ","


def _suffixes(file: Path) -> str:
    return (Path(file.stem) if file.suffix.lower() in PACKED else file).suffix.lower()


def _read(source: Source, data: str) -> dict[str, Any]:
    """Return all splits that ``data`` has, by their own names."""
    if data.startswith(HUB):
        return _load(data.removeprefix(HUB), source.config, place=data)
    path = Path(data)
    if path.is_file():
        return _read_files({"train": path}, source)
    if not path.is_dir():
        raise DataError(f"no file or folder {data}: check the path, or name hub:OWNER/NAME")
    files = {file.name.partition(".")[0].lower(): file for file in _data_files(path)}
    if files:
        return _read_files(files, source)
    if is_image_folder(data):
        return _load("imagefolder", place=data, data_dir=str(path), drop_labels=False)
    raise DataError(
        f"the folder {data} holds no data: put train.csv (or .tsv, .json, .jsonl, .parquet, .txt) "
        "in it, or images in one folder a class"
    )


def _data_files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if file.is_file() and kind_of(file))


def _read_files(files: dict[str, Path], source: Source) -> dict[str, Any]:
    return {name: _read_file(file, source) for name, file in files.items()}


def _read_file(file: Path, source: Source) -> Any:
    kind = kind_of(file)
    if kind is None:
        known = ", ".join(_KINDS)
        raise DataError(f"{file} is no data file: its name must end in {known} (or in .gz)")
    check_file(file, kind)
    options: dict[str, Any] = {}
    if kind == "csv":
        # An empty cell stays empty, and the word None a word: Pandas would take both for missing.
        options = {"sep": source.delimiter or _usual_delimiter(file), "keep_default_na": False}
        options |= {} if source.has_quotes else {"quoting": 3}
    if kind == "text":
        options = {"sample_by": "paragraph"}
    return _load(kind, place=str(file), data_files={"train": str(file)}, **options)["train"]


def _load(builder: str, *arguments: Any, place: str, **options: Any) -> dict[str, Any]:
    # Takes seconds to import, and is of use only where there are rows to read.
    import datasets
    from datasets.exceptions import DatasetsError

    verbosity = datasets.utils.logging.get_verbosity()
    # What it logs of a file that it cannot read, the error says too.
    datasets.utils.logging.set_verbosity(datasets.utils.logging.CRITICAL)
    silence_is_short = hub_or_cache(builder) if place.startswith(HUB) else contextlib.nullcontext()
    try:
        with silence_is_short, without_bars_of_datasets():
            return dict(datasets.load_dataset(builder, *arguments, **options))
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        cause = error.__cause__ or error
        if "corresponds to no data" in str(error) or type(cause).__name__ == "EmptyDataError":
            raise DataError(f"{place} has no rows") from None
        message = " ".join(str(cause).split())
        advice = _OF_CELLS if type(cause).__name__ == "ParserError" else ""
        raise DataError(
            f"{place} cannot be read ({type(cause).__name__}: {message}){advice}"
        ) from error
    finally:
        datasets.utils.logging.set_verbosity(verbosity)


def _name_of(split: str, found: dict[str, Any]) -> str | None:
    """Return what a split is called where it was found."""
    return next((name for name in _SPLIT_NAMES[split] if name in found), None)


def _chosen_train(source: Source, found: dict[str, Any]) -> Any:
    name = source.train or _name_of("train", found)
    if name is None and len(found) == 1:
        name = next(iter(found))
    if name is None or name not in found:
        wanted = "to train on" if name is None else repr(name)
        raise DataError(
            f"{source.data} has no split {wanted}: set --task.train to one of "
            f"{', '.join(sorted(found))}"
        )
    return found[name]


def _read_beside(source: Source, named: str, split: str, found: dict[str, Any]) -> dict[str, Any]:
    if not is_data(named):
        raise DataError(
            f"task.{split}: {named!r} is neither a file nor a split of {source.data}; "
            f"{nearest_names(named, found)}"
        )
    return _read(source, named)


def _only_split(found: dict[str, Any], named: str) -> Any:
    if len(found) != 1:
        raise DataError(f"{named} has several splits, {', '.join(sorted(found))}: name one file")
    return next(iter(found.values()))
