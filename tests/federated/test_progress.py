"""What a federation leaves on disk, as it is read back; also that of version 0.1."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from safetensors.torch import load_file

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.core.records import read_record, write_record
from rankwise.federated.progress import Progress, SavedProgress
from rankwise.federated.table import federations_table, remarks, rounds_table
from rankwise.training.federation_records import FederationRecord, Federations, Round
from tests.federated.test_server import federate

OLD = Path(__file__).parent / "version_0_1"
STOPPED = OLD / "rac-lora-0971b469148bc564-2"


def test_what_was_saved_is_loaded(plan_of, tmp_path):
    plan = plan_of("rac-lora", clients=2)
    saved = Progress(tmp_path / "run", plan)
    saved.state.put({"round-1/A": torch.arange(3.0)}, 2)
    saved.rounds += [
        Round(number=0, score=0.1, loss=2.0, seconds=0.5),
        Round(number=1, score=0.2, loss=1.5, seconds=0.5, clients=(0,), left_out={1: "it failed"}),
    ]
    saved.save()
    loaded = Progress(tmp_path / "run", plan)
    loaded.load(like=lambda _: saved.state.tensors)
    assert loaded.rounds == saved.rounds
    assert loaded.state.stamps == {"round-1/A": 2}
    assert torch.equal(loaded.state.tensors["round-1/A"], torch.arange(3.0))


def test_progress_of_another_plan_is_refused(plan_of, tmp_path):
    saved = Progress(tmp_path, plan_of("lora", clients=2))
    saved.rounds.append(Round(number=0, score=0.1, loss=2.0, seconds=0.5))
    saved.save()
    with pytest.raises(SettingsError, match="other settings"):
        Progress(tmp_path, plan_of("lora", clients=3)).load(like=lambda _: {})


@pytest.fixture
def begun(plan_of, tmp_path):
    """A federation after one round, and what a state after one is like."""
    progress = Progress(tmp_path / "run", plan_of("rac-lora", clients=2))
    progress.state.put({"round-1/A": torch.arange(3.0)}, 2)
    progress.rounds += [Round(number=number, score=0.1, loss=2.0, seconds=0.5) for number in (0, 1)]
    progress.examples = {0: 300, 1: 237}
    progress.save()
    return progress, lambda rounds: {f"round-{i}/A": torch.zeros(3) for i in range(1, rounds + 1)}


def load(begun):
    progress, like = begun
    Progress(progress.folder, progress._plan).load(like=like)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda data: data[:-1], "its bytes are not those that were written"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "its bytes are not those"),
        (lambda data: data[:0], "its bytes are not those"),
    ],
)
def test_a_state_that_was_cut_or_of_which_a_bit_was_turned_is_refused(begun, damage, told):
    file = begun[0].folder / "state-1.safetensors"
    load(begun)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(
        AdapterError, match=rf"state-1.safetensors is damaged \({told}.*remove .*run"
    ):
        load(begun)


def test_a_state_that_is_gone_is_named(begun):
    (begun[0].folder / "state-1.safetensors").unlink()
    with pytest.raises(AdapterError, match=r"state-1.safetensors is damaged \(.*No such file"):
        load(begun)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda data: data[:40], r"damaged \("),
        (lambda data: data[:-4] + b"\0\0\xc0\x7f", "round-1/A is not finite"),
        (
            lambda data: data.replace(b"round-1/A", b"round-1/B"),
            "its tensors are not those of prog",
        ),
        (lambda data: data.replace(b"[3]", b"[1]"), r"damaged \("),
    ],
)
def test_a_state_of_version_0_1_has_no_digest_and_is_held_to_its_form(begun, damage, told):
    folder = begun[0].folder
    saved = read_record(folder / "progress.json")
    write_record(folder / "progress.json", saved | {"state_digest": None})
    load(begun)
    file = folder / "state-1.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(AdapterError, match=told):
        load(begun)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"rounds": []}, "rounds: "),
        ({"rounds": [{"number": 1, "score": 1, "loss": 1, "seconds": 1}]}, "numbered from 0"),
        ({"rounds": "two"}, "rounds: "),
        ({"stamps": {"round-1/A": 9}}, "stamps must be between 1 and 2"),
        ({"stamps": {}}, r"state-1.safetensors is damaged .*round-1/A"),
        ({"stamps": [2]}, "stamps: "),
        ({"plan": {"run": {}}}, r"plan\.run\.method"),
        ({"examples": {"first": 3}}, r"examples\.first"),
        ({"state_digest": 3}, "state_digest"),
    ],
)
def test_damage_to_progress_is_named_with_its_place(begun, damage, told):
    file = begun[0].folder / "progress.json"
    write_record(file, read_record(file) | damage)
    with pytest.raises(AdapterError, match=told):
        load(begun)


ANYTHING = st.none() | st.booleans() | st.integers() | st.text() | st.just([]) | st.just({"x": 1})


@given(data=st.data())
def test_progress_and_records_that_anybody_changed_are_read_or_refused(tmp_path_factory, data):
    kinds = {FederationRecord: "record.json", Federations: "federated.json"}
    kinds[SavedProgress] = f"{STOPPED.name}/progress.json"
    kind = data.draw(st.sampled_from(list(kinds)))
    changed = tmp_path_factory.mktemp("changed") / "file.json"
    tree = json.loads((OLD / kinds[kind]).read_text())
    put_anywhere(tree, data)
    changed.write_text(json.dumps(tree))
    try:
        read = kind.read(changed)
    except AdapterError:
        return
    if kind is not SavedProgress:
        print_tables(read.federations if kind is Federations else [read])


def put_anywhere(tree, data):
    """Walk down to any value of a tree, and put anything in its place."""
    while True:
        keys = sorted(tree) if isinstance(tree, dict) else range(len(tree))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(tree[key], dict | list) or not tree[key] or data.draw(st.booleans()):
            tree[key] = data.draw(ANYTHING)
            return
        tree = tree[key]


def print_tables(records):
    console = Console(file=io.StringIO())
    console.print(federations_table(records), rounds_table(records))
    for sentence in remarks(records):
        assert sentence.isprintable()
        console.print(sentence, markup=False)


def test_brackets_and_control_characters_of_strangers_are_shown_as_they_are():
    record = FederationRecord.read(OLD / "record.json")
    wild = "it failed: [/red]\x1b[31m\n[bold"
    rounds = tuple(each.model_copy(update={"left_out": {1: wild}}) for each in record.rounds)
    wild_record = record.model_copy(update={"rounds": rounds, "method": "[/x]"})
    print_tables([wild_record, wild_record])
    assert remarks([wild_record])[0].endswith(r"left out: it failed: [/red]\x1b[31m [bold")


def test_a_record_of_version_0_1_is_read():
    record = FederationRecord.read(OLD / "record.json")
    assert (record.method, record.metric, record.trained_numbers) == ("rac-lora", "accuracy", 448)
    assert record.plan.digest == record.digest == "0971b469148bc564"
    assert record.rounds[1].left_out == {1: "it failed: the power went out"}
    assert record.rounds[2].clients == (0, 1)


def test_federations_of_version_0_1_are_shown():
    records = Federations.read(OLD / "federated.json").federations
    assert [each.method for each in records] == ["rac-lora", "lora-sb", "lora", "full"]
    assert federations_table(records).row_count == 4
    assert remarks(records)[1] == (
        "fed-sb, round 1: client 1 was left out: it failed: the power went out"
    )


def test_a_federation_that_version_0_1_left_unfinished_is_resumed(cache, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(STOPPED, folder)
    saved = SavedProgress.read(folder / "progress.json")
    record, grid = federate(saved.plan, folder, cache)
    assert record.rounds[:2] == saved.rounds
    assert {number for _, number, _ in grid.sent} == {0, 2}
    before, after = (
        load_file(STOPPED / "state-1.safetensors"),
        load_file(folder / "state-2.safetensors"),
    )
    assert all(torch.equal(after[name], before[name]) for name in before)
