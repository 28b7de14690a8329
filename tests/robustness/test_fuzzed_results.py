"""What commands leave and read again: whatever it holds now, it is shown or refused by name.

``make fuzz`` runs the same with thousands of files; RANKWISE_FUZZ_EXAMPLES says how many.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from rankwise.comparison.folder import read_summary
from rankwise.comparison.report.comparison import Comparison
from rankwise.comparison.report.formats import FORMATS
from rankwise.comparison.report.page import write_report
from rankwise.comparison.terminal import remarks, summary_table, tuning
from rankwise.evaluation.generation import _read_completions
from rankwise.evaluation.judge_mt_bench import _rated
from rankwise.federated import table as federated
from rankwise.federated.progress import Progress, SavedProgress
from rankwise.federated.report import page as federated_page
from rankwise.tasks.kept_weights import keep_weights, take_weights
from rankwise.tasks.own.preference_model import _kept
from rankwise.training.federation_records import Federations
from rankwise.training.finished import FinishedRun
from rankwise.training.interrupted import refuse_other_run
from rankwise.training.records import RetentionRecord, TestResult
from rankwise.training.settings.recipe import load_recipe
from tests.comparison.report_records import made_up_comparison
from tests.robustness.fuzzing import EDITS, JSON, fuzzed, fuzzed_by, mutated, survives, with_value

OLD = Path(__file__).parents[1] / "federated" / "version_0_1"
STOPPED = OLD / "rac-lora-0971b469148bc564-2"
STATE = load_file(STOPPED / "state-1.safetensors")


def show(folder: Path) -> Comparison:
    """Read a summary and write all that ``rankwise report`` prints of it."""
    summary = read_summary(folder)
    console = Console(file=io.StringIO(), markup=False)
    console.print(summary_table(summary), *remarks(summary), *tuning(summary), *summary.verdict)
    comparison = Comparison(summary, [])
    for write in FORMATS.values():
        write(comparison)
    return comparison


def show_federations(folder: Path) -> Federations:
    """Read federations and write what ``rankwise report`` prints of them."""
    found = Federations.read(folder / "federated.json")
    records = found.federations
    console = Console(file=io.StringIO(), markup=False)
    console.print(federated.rounds_table(records), federated.federations_table(records))
    console.print(*federated.remarks(records))
    return found


def read_state(folder: Path) -> None:
    saved = SavedProgress.read(folder / "progress.json")
    Progress(folder, saved.plan).load(like=lambda _: STATE)


def content_of(file: Path) -> dict:
    return json.loads(file.read_text())


SUMMARY = made_up_comparison().summary.model_dump(mode="json")
SETTINGS = {"settings": load_recipe("digits").run().model_dump(mode="json")}
TEST = {"run": "one", "score_test": 0.5, "scores": {"accuracy": 0.5}, "predictions": [1, 2]}
RETENTION = {"run": "one", "measure": "x", "before": 0.5, "after": 0.4, "forgetting": 0.1}
KEPT = [
    ("summary.json", SUMMARY, show),
    ("runs/one/settings.json", SETTINGS, lambda folder: refuse_other_run(RUN, folder)),
    ("test.json", TEST, lambda folder: TestResult.read(folder / "test.json")),
    ("retention.json", RETENTION, lambda folder: RetentionRecord.read(folder / "retention.json")),
    ("progress.json", content_of(STOPPED / "progress.json"), read_state),
    ("record.json", content_of(OLD / "record.json"), FinishedRun.open),
    ("federated.json", content_of(OLD / "federated.json"), show_federations),
]
RUN = load_recipe("digits", {"training": {"epochs": 7}}).run()


@fuzzed
@given(place=st.floats(0, 1), value=JSON, edits=EDITS)
@pytest.mark.parametrize(("name", "whole", "read"), KEPT, ids=[name for name, *_ in KEPT])
def test_what_a_command_keeps(tmp_path_factory, name, whole, read, place, value, edits):
    folder = tmp_path_factory.mktemp("kept")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"format_version": 1, **whole}
    for raw in (json.dumps(with_value(whole, place, value)), json.dumps(whole)):
        path.write_bytes(mutated(raw.encode(), edits))
        survives(read, folder)
        path.write_text(raw)
        survives(read, folder)


def write_pages(folder: Path) -> None:
    """Write the pages of what can be read at all."""
    if (folder / "summary.json").exists():
        write_report(show(folder), folder / "report.html")
    else:
        records = show_federations(folder).federations
        federated_page.write_report(records, folder / "federated.html")


@fuzzed_by(0.02)  # a page takes as long as hundreds of the others
@given(place=st.floats(0, 1), value=JSON)
@pytest.mark.parametrize("name", ["summary.json", "federated.json"])
def test_pages(tmp_path_factory, name, place, value):
    folder = tmp_path_factory.mktemp("page")
    whole = {file: content for file, content, _ in KEPT}[name]
    (folder / name).write_text(json.dumps({"format_version": 1, **with_value(whole, place, value)}))
    survives(write_pages, folder)


@fuzzed
@given(edits=EDITS)
def test_states_of_federations(tmp_path_factory, edits):
    folder = tmp_path_factory.mktemp("state") / "federation"
    shutil.copytree(STOPPED, folder)
    (state,) = folder.glob("state-*.safetensors")
    state.write_bytes(mutated(state.read_bytes(), edits))
    survives(read_state, folder)


HEAD = b'{"answers_to": "x"}\n'
ANSWERS = [b'{"row": 0, "text": "a", "is_truncated": true}', b'{"row": 1, "text": null, "x": [1]}']
RATED = b'{"question_id": 81, "turn": 1, "score": 4.5, "error": null, "judgment": "[[4.5]]"}\n'


@fuzzed
@given(edits=EDITS, line=JSON)
def test_answers_judgements_and_likelihoods(tmp_path_factory, edits, line):
    folder = tmp_path_factory.mktemp("answers")
    texts, judged, ratios = (folder / name for name in ("texts", "judged", "ratios.json"))
    added = json.dumps(line).encode() + b"\n"
    for change in (lambda content: mutated(content, edits), lambda content: content + added):
        texts.write_bytes(change(HEAD + b"\n".join(ANSWERS) + b"\n"))
        survives(_read_completions, texts, "x", 3)
        judged.write_bytes(change(RATED * 2))
        survives(_rated, judged)
        ratios.write_bytes(change(b"[0.5, -1.25, 3]"))
        survives(lambda: _kept(ratios, rows=3))


@fuzzed
@given(edits=EDITS)
def test_base_models(tmp_path_factory, edits):
    file = tmp_path_factory.mktemp("base") / "base.safetensors"
    network = nn.Linear(2, 3)
    keep_weights(network.state_dict(), file)
    file.write_bytes(mutated(file.read_bytes(), edits))
    survives(take_weights, network, file)
