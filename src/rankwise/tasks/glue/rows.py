"""The three splits of a GLUE task, read once a process, from local files or from the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from rankwise.core.errors import SettingsError, nearest_names
from rankwise.tasks.glue.definitions import Definition, Split, find_definition
from rankwise.tasks.glue.examples import Example, Part
from rankwise.tasks.glue.files import has_file, read_file
from rankwise.tasks.glue.hub import read_hub
from rankwise.tasks.glue.splits import held_out, revisited, some_rows

Protocol = Literal["revisited", "official", "held-out"]


@dataclass(frozen=True)
class GlueRows:
    """The rows of the splits; ``sources`` says for each split, by name, where they come from."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    sources: dict[str, str]


def read_glue(
    name: str,
    *,
    root: Path | None = None,
    protocol: Protocol = "revisited",
    split_seed: int = 42,
    rows: int | None = None,
) -> GlueRows:
    """Return the splits of the task ``name``.

    ``revisited`` cuts validation and test out of dev (see ``splits.revisited``); ``official`` takes
    train, dev and a labelled test split; ``held-out`` cuts all three out of the one split that is
    at hand, train before dev.

    Args:
        name: As in ``definitions``, for example ``mrpc``.
        root: The data root with local files; None: the Hub.
        protocol: How the rows are split.
        split_seed: Of the cuts and of ``rows``.
        rows: How many training rows, drawn by the seed; None: all.

    Raises:
        SettingsError: The task or the protocol is unknown, or ``rows`` is more than there are.
        DataError: A split is missing, not labelled or broken.
    """
    definition = find_definition(name)
    if protocol not in get_args(Protocol):
        known = nearest_names(protocol, get_args(Protocol))
        raise SettingsError(f"no protocol of GLUE is called {protocol!r}: {known}")
    train, validation, test = _parts(definition, root, protocol, split_seed)
    if rows is not None:
        train = _take(train, some_rows(len(train.examples), rows, split_seed))
    sources = {"train": train.source, "validation": validation.source, "test": test.source}
    return GlueRows(train.examples, validation.examples, test.examples, sources)


def _parts(
    definition: Definition, root: Path | None, protocol: Protocol, seed: int
) -> tuple[Part, Part, Part]:
    if protocol == "held-out":
        one_split: Split = "train"
        if root is not None and not has_file(definition, "train", root):
            one_split = "validation"
        whole = _read(definition, one_split, root)
        train, validation, test = held_out(len(whole.examples), seed)
        return _take(whole, train), _take(whole, validation), _take(whole, test)
    train = _read(definition, "train", root)
    dev = _read(definition, "validation", root)
    if protocol == "official":
        return train, dev, _read(definition, "test", root)
    validation, test = revisited(
        len(dev.examples),
        seed,
        validation_rows=definition.validation_rows,
        is_swapped=definition.is_swapped,
    )
    return train, _take(dev, validation), _take(dev, test)


def _read(definition: Definition, split: Split, root: Path | None) -> Part:
    if root is None:
        return read_hub(definition, split)
    return read_file(definition, split, root)


def _take(part: Part, index: Sequence[int]) -> Part:
    source = f"{len(index)} of the {len(part.examples)} rows of {part.source}"
    return Part([part.examples[row] for row in index], source)
