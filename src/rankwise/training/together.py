"""Many runs of a comparison in one call: small ones in lockstep, others one after another.

The runs differ in learning rate and seed alone. One that fails is no business of the others.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from rankwise.core.disk import is_want_of_room
from rankwise.training.folder import RunFolder
from rankwise.training.initialization import needs_reference, reference_settings
from rankwise.training.job import Job, prepare_job
from rankwise.training.loops.lockstep import can_train_together, train_together
from rankwise.training.loops.results import Trained
from rankwise.training.recorded import finished_record
from rankwise.training.records import FailedRun, InitializationRecord, RunRecord
from rankwise.training.run import OpenRun, failure_of, run_and_record, run_of_ones_own
from rankwise.training.saving import save_trained
from rankwise.training.settings.method import BoundaryInit
from rankwise.training.settings.run import RunSettings


def run_all_and_record(
    settings: Sequence[RunSettings], output: Path
) -> list[RunRecord | FailedRun]:
    """Perform runs that differ in learning rate and seed alone, unless they are done.

    Each leaves what :func:`run_and_record` of it would leave. What all of them take together counts
    for each in equal shares.
    """
    records: dict[str, RunRecord | FailedRun] = {}
    for each in settings:
        if (record := finished_record(RunFolder.below(output, each.name))) is not None:
            records[each.name] = record
    left = [each for each in settings if each.name not in records]
    if left and left[0].is_stackable:
        records |= _Together(output).perform(left)
    for each in settings:
        if each.name not in records:
            records[each.name] = run_and_record(each, output)
    return [records[each.name] for each in settings]


@dataclass
class _Together:
    """Runs on their way through building, initialization, training and saving, side by side."""

    output: Path
    records: dict[str, RunRecord | FailedRun] = field(default_factory=dict)
    starts: dict[int, _Start] = field(default_factory=dict)

    def perform(self, settings: Sequence[RunSettings]) -> dict[str, RunRecord | FailedRun]:
        """Return the records by name; none if the model is none for this loop.

        Raises:
            SettingsError: Another command performs one of the runs.
        """
        with ExitStack() as locks:
            for each in settings:
                locks.enter_context(run_of_ones_own(RunFolder.below(self.output, each.name)))
            return self._perform(settings)

    def _perform(self, settings: Sequence[RunSettings]) -> dict[str, RunRecord | FailedRun]:
        runs: list[OpenRun] = []
        for each in settings:
            with self._failure_recorded(each):
                runs.append(OpenRun.begin(each, RunFolder.below(self.output, each.name)))
            if runs and not can_train_together(runs[0].job):
                return {}
        if runs and needs_reference(runs[0].job.settings.method):
            runs = self._train_references(runs)
        for run in runs:
            with self._failure_recorded(run.job.settings):
                self._initialize(run)
        self._train([run for run in runs if run.job.settings.name not in self.records])
        return self.records

    def _train_references(self, runs: Sequence[OpenRun]) -> list[OpenRun]:
        """Train the references of all runs, and return the runs that have one."""
        prepared: list[tuple[OpenRun, Job]] = []
        for run in runs:
            settings, task = reference_settings(run.job.settings), run.job.task
            with self._failure_recorded(run.job.settings):
                prepared.append((run, prepare_job(settings, run.folder.base, task=task)))
        ready, jobs = [run for run, _ in prepared], [job for _, job in prepared]
        kept: list[OpenRun] = []
        for i, ended in self._trained(ready, jobs).items():
            run = ready[i]
            with self._failure_recorded(run.job.settings):
                save_trained(jobs[i].model, run.folder.reference)
                run.watch.add("init", ended.seconds)
                kept.append(run)
        return kept

    def _initialize(self, run: OpenRun) -> None:
        """Give a run its start; where no learning rate has a part in it, once for each seed."""
        init, seed = run.job.settings.method.init, run.job.settings.seed
        if not isinstance(init, BoundaryInit) or init.reference == "task":
            run.initialize()
        elif seed in self.starts:
            start = self.starts[seed]
            set_peft_model_state_dict(run.job.model, start.tensors)
            run.report = start.report
            run.watch.add("init", start.seconds)
        else:
            run.initialize()
            state = get_peft_model_state_dict(run.job.model)
            tensors = {name: tensor.clone() for name, tensor in state.items()}
            self.starts[seed] = _Start(tensors, run.report, run.watch.seconds()["init"])

    def _train(self, runs: Sequence[OpenRun]) -> None:
        """Train the runs, and record them."""
        for i, ended in self._trained(runs, [run.job for run in runs]).items():
            run = runs[i]
            with self._failure_recorded(run.job.settings):
                run.watch.add("train", ended.seconds + ended.trained.diagnostics_seconds)
                record = run.end(ended.trained, trained_together=ended.together)
                self._record(record, run.job.settings)

    def _trained(self, runs: Sequence[OpenRun], jobs: Sequence[Job]) -> dict[int, _Ended]:
        """Train the jobs of the runs, and return by position those that came to their end."""
        ended: dict[int, _Ended] = {}
        for group in _of_one_shape(jobs):
            ended |= self._trained_alike(group, runs, jobs)
        return dict(sorted(ended.items()))

    def _trained_alike(
        self, group: Collection[int], runs: Sequence[OpenRun], jobs: Sequence[Job]
    ) -> dict[int, _Ended]:
        """Train those of the jobs whose positions are in ``group``, at once."""
        begun = time.perf_counter()
        try:
            results: Sequence[Trained | Exception] = train_together([jobs[i] for i in group])
        except Exception as error:
            if is_want_of_room(error):
                raise
            results = [error] * len(group)
        found = dict(zip(group, results, strict=True))
        done = {i: each for i, each in found.items() if isinstance(each, Trained)}
        measuring = sum(each.diagnostics_seconds for each in done.values())
        seconds = (time.perf_counter() - begun - measuring) / len(group)
        for i, result in found.items():
            if isinstance(result, Exception):
                settings = runs[i].job.settings
                self._record(failure_of(settings, result, seconds=seconds), settings)
        return {i: _Ended(each, seconds, len(group)) for i, each in done.items()}

    @contextmanager
    def _failure_recorded(self, settings: RunSettings) -> Iterator[None]:
        """Record whatever stops a run, but for want of room on the disk, which stops all."""
        begun = time.perf_counter()
        try:
            yield
        except Exception as error:
            if is_want_of_room(error):
                raise
            failure = failure_of(settings, error, seconds=time.perf_counter() - begun)
            self._record(failure, settings)

    def _record(self, record: RunRecord | FailedRun, settings: RunSettings) -> None:
        record.write(RunFolder.below(self.output, settings.name).record)
        self.records[settings.name] = record


def _of_one_shape(jobs: Sequence[Job]) -> list[list[int]]:
    """Return the positions of jobs of the same shapes; ranks that are placed make others."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, job in enumerate(jobs):
        shapes = tuple((name, each.shape) for name, each in job.model.named_parameters())
        groups.setdefault(shapes, []).append(i)
    return list(groups.values())


class _Ended(NamedTuple):
    """A run that came to its end.

    Attributes:
        trained: What its training has returned.
        seconds: Its share of those of all that were trained at once, measuring apart.
        together: How many these were.
    """

    trained: Trained
    seconds: float
    together: int


@dataclass(frozen=True)
class _Start:
    """What an initialization wrote, for other runs that begin at the same."""

    tensors: dict[str, Tensor]
    report: InitializationRecord | None
    seconds: float
