"""A process that runs ``rankwise`` in children and kills each at a chosen moment of its program.

A moment is a place in the program, how often it was entered, a number of function calls from there
on (a count and not a time, so that a trial is the same on every machine), and the signal that
arrives then. Run as a module it reads one JSON object a line, ``{"words", "moment"}``, and answers
with the exit code of a child that ran ``rankwise <words>``: minus the number of the signal that
ended it, 130 after Ctrl-C and 143 after SIGTERM. All is imported once, by the parent.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from types import FrameType
from typing import Any, TextIO

from rankwise.cli import main as cli

Moment = tuple[str, int, int, int]  # place, entry, calls, signal

# What ends a process: its user by force, a job system, the terminal's Ctrl-C, the terminal's end.
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# What the command says itself of those that it hears.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}

# Where a moment may lie: a function's file and name, and how often the run of the trials enters it.
PLACES = {
    "checkpoint": ("transformers/trainer.py", "Trainer._save_checkpoint", 3),
    "boundary": ("rankwise/methods/chain/chain.py", "Chain.fold", 2),
    "init": ("rankwise/methods/inits/boundary.py", "BoundaryMatching.run", 1),
    "evaluation": ("rankwise/training/loops/trainer.py", "JobTrainer.evaluate", 4),
    "training": ("transformers/trainer.py", "Trainer.training_step", 15),
    "saving": ("rankwise/training/run.py", "_save", 1),
    "recording": ("rankwise/core/records.py", "write_record", 2),
    "base": ("rankwise/tasks/pixels.py", "pretrain", 1),
}


def die_at(moment: Moment) -> None:
    """Send this process the signal at ``moment``."""
    place, entries, calls, sent = moment
    file, name, _ = PLACES[place]

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal entries, calls
        if entries:
            code = frame.f_code
            if event == "call" and code.co_qualname == name and code.co_filename.endswith(file):
                entries -= 1
        elif event in ("call", "c_call"):
            calls -= 1
            if calls < 0:
                sys.setprofile(None)
                os.kill(os.getpid(), sent)

    sys.setprofile(count)


def listen() -> None:
    """Hear all signals as in a terminal, also where these tests run in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)


def serve(answers: TextIO) -> None:
    """Answer each line of the standard input until it ends."""
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            listen()
            if order["moment"] is None:
                os._exit(cli.main(order["words"]))
            die_at(order["moment"])
            if (code := cli.main(order["words"])) in EXIT_CODES.values():
                os._exit(code)
            os.kill(os.getpid(), signal.SIGKILL)  # the moment lay after its end
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


class Parent:
    """The same process seen from the outside: started and given orders."""

    def __enter__(self) -> Parent:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.robustness.mortal"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # One thread: a child that is forked from several may wait for one that it lacks.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, words: list[str], moment: Moment | None = None) -> int:
        """Run ``rankwise <words>`` in a child, to ``moment`` or to its end."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        print(json.dumps({"words": words, "moment": moment}), file=stdin, flush=True)
        return int(stdout.readline())


if __name__ == "__main__":
    # What a command would import later, so that each child finds it there.
    import rankwise.cli.train_command
    import rankwise.training.loops.trainer  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what children print goes to the error stream
    serve(answers)
