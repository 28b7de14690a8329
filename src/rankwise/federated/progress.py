"""What a federation has come to, on disk after each round, whole or not at all.

FOLDER/progress.json        the plan, the rounds that are done, and which state belongs to them
FOLDER/state-N.safetensors  the state after round N
FOLDER/record.json          the same with the scores, when all rounds are done
FOLDER/adapter/             what was trained, as an adapter directory (or model.safetensors)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from rankwise.core.errors import SettingsError
from rankwise.core.records import read_record, write_record
from rankwise.federated.exchange import State
from rankwise.federated.settings import Plan


@dataclass(frozen=True)
class Round:
    """What happened in a round; number 0 is what the clients start from.

    Attributes:
        clients: The numbers of those whose updates were averaged.
        left_out: Why others that were sampled were not, by number.
        distance: Of the mean of the clients' updates from what the server applied, relative.
    """

    number: int
    score: float
    loss: float
    seconds: float
    clients: list[int] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    distance: float = 0.0


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
            SettingsError: It was saved by a run with other settings.
        """
        content = read_record(self._file)
        if content["digest"] != self._plan.digest:
            raise SettingsError(
                f"{self.folder} holds a federation with other settings: repeat them, or choose "
                "another --output"
            )
        self.rounds = [Round(**each) for each in content["rounds"]]
        tensors = load_file(self._tensors(self.rounds[-1].number)) if content["stamps"] else {}
        self.state = State(tensors, dict(content["stamps"]))

    def save(self) -> None:
        """Write the state, then what points to it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self._tensors(self.rounds[-1].number)
        partial = file.with_suffix(".partial")
        if self.state.tensors:
            save_file(self.state.tensors, partial)
            partial.replace(file)
        write_record(self._file, self.summary() | {"stamps": self.state.stamps})
        for old in self.folder.glob("state-*.safetensors"):
            if old != file:
                old.unlink()

    def summary(self) -> dict[str, Any]:
        """Return the plan and the rounds, ready for a record."""
        return {
            "plan": self._plan.model_dump(mode="json"),
            "digest": self._plan.digest,
            "rounds": [asdict(each) for each in self.rounds],
        }

    @property
    def _file(self) -> Path:
        return self.folder / "progress.json"

    def _tensors(self, number: int) -> Path:
        return self.folder / f"state-{number}.safetensors"
