"""What a federation has come to, on disk after each round, whole or not at all.

FOLDER/progress.json        the plan, the rounds that are done, and which state belongs to them
FOLDER/state-N.safetensors  the state after round N
FOLDER/record.json          the same with the scores, when all rounds are done
FOLDER/adapter/             what was trained, as an adapter directory (or model.safetensors)
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from safetensors.torch import load_file, save_file

from rankwise.core.errors import SettingsError
from rankwise.core.records import Record
from rankwise.federated.exchange import State
from rankwise.training.records import Round
from rankwise.training.settings.federation_plan import Plan


class SavedProgress(Record):
    """The rounds that are done, and the stamps of the state after the last of them."""

    plan: Plan
    digest: str
    rounds: tuple[Round, ...] = Field(min_length=1)
    stamps: dict[str, int]


class Progress:
    """The state and the rounds of one federation, kept in ``folder``."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self._plan = folder, plan
        self.state = State()
        self.rounds: list[Round] = []

    @property
    def record(self) -> Path:
        return self.folder / "record.json"

    @property
    def is_begun(self) -> bool:
        """Whether something was saved."""
        return self._file.exists()

    def load(self) -> None:
        """Read what was saved.

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
        self.rounds = list(saved.rounds)
        tensors = load_file(self._tensors(self.rounds[-1].number)) if saved.stamps else {}
        self.state = State(tensors, dict(saved.stamps))

    def save(self) -> None:
        """Write the state, then what points to it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self._tensors(self.rounds[-1].number)
        partial = file.with_suffix(".partial")
        if self.state.tensors:
            save_file(self.state.tensors, partial)
            partial.replace(file)
        SavedProgress(
            plan=self._plan,
            digest=self._plan.digest,
            rounds=tuple(self.rounds),
            stamps=self.state.stamps,
        ).write(self._file)
        for old in self.folder.glob("state-*.safetensors"):
            if old != file:
                old.unlink()

    @property
    def _file(self) -> Path:
        return self.folder / "progress.json"

    def _tensors(self, number: int) -> Path:
        return self.folder / f"state-{number}.safetensors"
