"""What a federation has come to, on disk after each round, whole or not at all.

FOLDER/progress.json        the plan, the rounds that are done, and which state belongs to them
FOLDER/state-N.safetensors  the state after round N
FOLDER/record.json          the same with the scores, when all rounds are done
FOLDER/adapter/             what was trained, as an adapter directory (or model.safetensors)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.core.outside_text import one_line
from rankwise.core.records import Record
from rankwise.federated.exchange import State, Tensors, fault_of
from rankwise.training.federation_records import Round
from rankwise.training.settings.federation_plan import Plan


class SavedProgress(Record):
    """The rounds that are done, and what is known of the state after the last of them.

    Attributes:
        examples: Of each client, by number, as it named them when it first joined.
        stamps: By the name of each tensor of the state; empty if there is none.
        state_digest: SHA-256 of the state's file; None in what version 0.1 wrote.
    """

    plan: Plan
    digest: str
    rounds: tuple[Round, ...] = Field(min_length=1)
    examples: dict[int, int] = Field(default_factory=dict)
    stamps: dict[str, int]
    state_digest: str | None = None

    @model_validator(mode="after")
    def _check_rounds(self) -> SavedProgress:
        numbers = [each.number for each in self.rounds]
        if numbers != list(range(len(numbers))):
            raise ValueError(f"rounds must be numbered from 0 without a gap, got {numbers}")
        if any(not 1 <= stamp <= len(numbers) for stamp in self.stamps.values()):
            raise ValueError(f"stamps must be between 1 and {len(numbers)}, the next round")
        return self


class Progress:
    """The state and the rounds of one federation, kept in ``folder``."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self._plan = folder, plan
        self.state = State()
        self.rounds: list[Round] = []
        self.examples: dict[int, int] = {}

    @property
    def record(self) -> Path:
        return self.folder / "record.json"

    @property
    def is_begun(self) -> bool:
        """Whether something was saved."""
        return self._file.exists()

    def load(self, *, like: Callable[[int], Mapping[str, Tensor]]) -> None:
        """Read what was saved.

        Args:
            like: Gives, for a number of rounds, tensors of the names, shapes and dtypes of a state
                after them.

        Raises:
            AdapterError: It is damaged.
            SettingsError: It was saved by a run with other settings.
        """
        saved = SavedProgress.read(self._file)
        if saved.digest != self._plan.digest:
            raise SettingsError(
                f"{self.folder} holds a federation with other settings: repeat them, or choose "
                "another --output"
            )
        self.rounds, self.examples = list(saved.rounds), dict(saved.examples)
        self.state = State(self._read_state(saved, like), dict(saved.stamps))

    def save(self) -> None:
        """Write the state, then what points to it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self._tensors(self.rounds[-1].number)
        state_digest = None
        if self.state.tensors:
            partial = file.with_suffix(".partial")
            save_file(self.state.tensors, partial)
            state_digest = _digest_of(partial)
            partial.replace(file)
        SavedProgress(
            plan=self._plan,
            digest=self._plan.digest,
            rounds=tuple(self.rounds),
            examples=self.examples,
            stamps=self.state.stamps,
            state_digest=state_digest,
        ).write(self._file)
        for old in self.folder.glob("state-*.safetensors"):
            if old != file:
                old.unlink()

    def _read_state(
        self, saved: SavedProgress, like: Callable[[int], Mapping[str, Tensor]]
    ) -> Tensors:
        done = len(saved.rounds) - 1
        file = self._tensors(done)
        try:
            if saved.state_digest is not None and saved.state_digest != _digest_of(file):
                raise _damaged(file, "its bytes are not those that were written")
            tensors = load_file(file) if saved.stamps else {}
        except (OSError, SafetensorError) as error:
            raise _damaged(file, str(error)) from None
        if tensors.keys() != saved.stamps.keys():
            raise _damaged(file, f"its tensors are not those of {self._file.name}")
        if fault := fault_of(tensors, like(done)):
            raise _damaged(file, fault)
        return tensors

    @property
    def _file(self) -> Path:
        return self.folder / "progress.json"

    def _tensors(self, number: int) -> Path:
        return self.folder / f"state-{number}.safetensors"


def _digest_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _damaged(file: Path, why: str) -> AdapterError:
    return AdapterError(
        f"the state {file} is damaged ({one_line(why)}): remove {file.parent} to begin this "
        "federation anew"
    )
