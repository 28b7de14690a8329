"""A run that any signal ends at any moment, and that is resumed, ends as one never interrupted.

``make kill-trials`` makes more of them; RANKWISE_KILL_TRIALS says how many.
"""

from __future__ import annotations

import math
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from rankwise.core.records import read_record

from .mortal import EXIT_CODES, PLACES, SIGNALS, Moment, Parent

pytestmark = pytest.mark.processes
TRIALS = int(os.environ.get("RANKWISE_KILL_TRIALS", "4"))
# An init, a chain of three blocks, checkpoints, scores: all that a run can consist of.
WORDS = [
    *["train", "digits", "--task.pretrain_epochs", "1", "--training.loop", "trainer"],
    *["--training.epochs", "3", "--training.batch_size", "128"],
    *["--method", "{name: abm-lora, r: 2, init: {steps: 3}, schedule: {kind: chain}}"],
]
COSTS = ("seconds", "peak_memory_bytes", "commit")
LONGEST = 3000  # calls from the place on: about as many as a step of the trainer takes


def moment_of(trial: int) -> Moment:
    """Draw a moment: the places take turns, so that what is short is hit as often as the rest.

    Signals take turns too, so that 32 trials have each of the four at each of the eight places.
    """
    generator = random.Random(trial)
    place = list(PLACES)[trial % len(PLACES)]
    entry = generator.randint(1, PLACES[place][2])
    calls = int(math.exp(generator.uniform(0, math.log(LONGEST))))
    return place, entry, calls, SIGNALS[(trial + trial // len(PLACES)) % len(SIGNALS)]


def assert_ends(parent: Parent, words: list[str], moment: Moment) -> None:
    """Run to ``moment`` and hold the exit code to what its signal does."""
    of_signal = EXIT_CODES.get(moment[-1], -moment[-1])
    assert parent.run(words, moment) in (of_signal, -signal.SIGKILL)  # the latter after its end


def without_costs(content: Any) -> Any:
    """Leave out what differs between two runs of the same: times, memory, and the commit."""
    if isinstance(content, dict):
        kept = (key for key in content if key not in COSTS)
        return {key: without_costs(content[key]) for key in kept}
    return [without_costs(each) for each in content] if isinstance(content, list) else content


def results(output: Path) -> dict[str, Any]:
    (folder,) = (output / "runs").iterdir()
    return {
        "record": without_costs(read_record(folder / "record.json")),
        "test": read_record(folder / "test.json"),
        "files": {
            file.name: file.read_bytes()
            for file in sorted((folder / "adapter").iterdir())
            if file.name != "README.md"
        },
    }


@pytest.fixture(scope="module")
def parent():
    with Parent() as parent:
        yield parent


@pytest.fixture(scope="module")
def whole(parent, tmp_path_factory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("whole")
    assert parent.run([*WORDS, "--output", str(output)]) == 0
    return results(output)


@pytest.mark.parametrize("trial", range(TRIALS))
def test_a_killed_run_resumes_to_the_same_end(parent, whole, tmp_path, trial):
    words = [*WORDS, "--output", str(tmp_path)]
    assert_ends(parent, words, moment_of(trial))
    if trial % 5 == 4:  # every fifth dies once more on its way
        assert_ends(parent, [*words, "--resume"], moment_of(trial + 1000))
    assert parent.run([*words, "--resume"]) == 0
    found = results(tmp_path)
    assert found["record"] == whole["record"]
    assert found == whole
