"""The data sets to train on: from the Hub by the ``datasets`` package, or from local files.

A local file lies below the data root as ``<family>/<task>/<split>.jsonl`` or under the name that
its authors gave it, as ``commonsense_170k.json`` of LLM-Adapters. Other files may stand in for it
by their names without the ending, such as ``commonsense/boolq/train``.

Alpaca has rows whose response is empty. There is nothing to learn from them: such rows are left
out, and the source of the rows says how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from rankwise.core.errors import DataError, SettingsError
from rankwise.core.seeds import derive_seed
from rankwise.tasks.generation.definitions import Corpus
from rankwise.tasks.generation.examples import Example, find_file, read_examples
from rankwise.tasks.generation.instructions import Instruction, read_instruction
from rankwise.tasks.hub import fetch_split


class CorpusRows(NamedTuple):
    """The rows of a corpus in order, and where they come from, for records."""

    rows: list[Instruction]
    source: str


@dataclass(frozen=True)
class CorpusCut:
    """Which rows of a corpus are trained on and which are held out.

    Attributes:
        corpus: What is known of the data set.
        root: The data root with local files; None: the Hub.
        files: Local files that stand in for the corpus; none: its own.
        rows: How many training rows; None: all that are not held out.
        held_out: Rows each of validation and test.
        seed: Of what is held out.
    """

    corpus: Corpus
    root: Path | None
    files: tuple[str, ...]
    rows: int | None
    held_out: int
    seed: int

    def read(self) -> tuple[CorpusRows, SplitRows]:
        """Return all rows, and the numbers of those of each split.

        Raises:
            DataError: As of :func:`read_corpus`.
            SettingsError: As there, or there are too few rows.
        """
        found = read_corpus(self.corpus, self.root, self.files)
        takes_first = self.corpus.takes_first and len(self.files) <= 1
        return found, split_rows(
            len(found.rows),
            rows=self.rows,
            held_out=self.held_out,
            seed=self.seed,
            takes_first=takes_first,
        )

    def held_out_rows(self) -> list[Instruction]:
        """Return the rows of validation and test."""
        found, parts = self.read()
        return [found.rows[number] for number in (*parts.validation, *parts.test)]


def read_corpus(corpus: Corpus, root: Path | None, files: Sequence[str] = ()) -> CorpusRows:
    """Return all rows: of ``files`` below ``root``, of the corpus's own file there, or the Hub's.

    Raises:
        DataError: A file is missing or broken, a row is not as expected, or the Hub is away.
        SettingsError: Files are named, but no folder that has them.
    """
    if root is None:
        if files:
            raise SettingsError(
                "task.files needs a folder: set --task.data_root FOLDER, or RANKWISE_DATA"
            )
        return _read_hub(corpus)
    rows: list[Instruction] = []
    names = []
    for stems in files or (corpus.files,):
        path = find_file(root, stems)
        name = path.relative_to(root).as_posix()
        rows += map(read_instruction, read_examples(path, name=name))
        names.append(name.partition(".json")[0])
    return _with_responses(rows, ", ".join(names))


def _read_hub(corpus: Corpus) -> CorpusRows:
    found = fetch_split(corpus.hub, "train", place=corpus.hub)
    rows = (Example(dict(row), f"Hub {corpus.hub}, row {i}") for i, row in enumerate(found))
    return _with_responses([read_instruction(example) for example in rows], f"Hub {corpus.hub}")


def _with_responses(rows: list[Instruction], source: str) -> CorpusRows:
    kept = [row for row in rows if row.response.strip()]
    if not kept:
        raise DataError(f"{source}: every response is empty")
    empty = len(rows) - len(kept)
    return CorpusRows(
        kept, source + (f" ({empty} rows without a response left out)" if empty else "")
    )


class SplitRows(NamedTuple):
    """The numbers of the rows of each split."""

    train: list[int]
    validation: list[int]
    test: list[int]


def split_rows(
    available: int, *, rows: int | None, held_out: int, seed: int, takes_first: bool
) -> SplitRows:
    """Cut ``available`` rows: ``held_out`` each for validation and test, ``rows`` for training.

    What is held out is drawn by ``seed``. Training rows are the first ones with ``takes_first``
    and a number of ``rows``, in file order, else all (or ``rows``) of the others in drawn order.

    Raises:
        SettingsError: There are too few rows.
    """
    wanted = (rows or 1) + 2 * held_out
    if wanted > available:
        raise SettingsError(
            f"{available} rows are too few for {rows or 'some'} to train on and twice {held_out} "
            "to hold out: lower task.rows or task.held_out"
        )
    kept = rows if takes_first and rows is not None else 0
    generator = torch.Generator().manual_seed(derive_seed(seed, "generation-rows"))
    order = (torch.randperm(available - kept, generator=generator) + kept).tolist()
    validation, test, rest = order[:held_out], order[held_out : 2 * held_out], order[2 * held_out :]
    return SplitRows(list(range(kept)) if kept else rest[:rows], validation, test)
