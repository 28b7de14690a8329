"""Files from anywhere: whatever they hold, a reader returns or raises a ``RankwiseError``.

``make fuzz`` runs the same with thousands of files; RANKWISE_FUZZ_EXAMPLES says how many.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from rankwise.cli.overrides import split_options
from rankwise.comparison.folder import read_summary
from rankwise.core.errors import RankwiseError
from rankwise.core.records import read_record
from rankwise.export.ledger import export_ledger
from rankwise.methods.adapters.directory import check_adapter_directory
from rankwise.methods.chain.ledger import FILE_NAME, read_ledger
from rankwise.tasks.generation.examples import read_examples
from rankwise.tasks.glue.definitions import find_definition
from rankwise.tasks.glue.files import read_file
from rankwise.tasks.idx import read_idx
from rankwise.training.finished import FinishedRun
from rankwise.training.interrupted import refuse_other_run
from rankwise.training.records import TestResult
from rankwise.training.settings.recipe import load_recipe
from tests.comparison.report_records import made_up_comparison
from tests.models.chains import build, chained

EXAMPLES = int(os.environ.get("RANKWISE_FUZZ_EXAMPLES", "60"))
fuzzed = settings(
    max_examples=EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1), st.sampled_from(["set", "cut", "insert", "swap"]), st.binary(max_size=9)
    ),
    min_size=1,
    max_size=4,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)


def mutated(content: bytes, edits) -> bytes:
    """Apply edits at places given as shares of the length."""
    for place, kind, piece in edits:
        at = int(place * len(content))
        if kind == "set":
            content = content[:at] + piece + content[at + len(piece) :]
        elif kind == "cut":
            content = content[:at] + content[at + 1 + len(piece) :]
        elif kind == "insert":
            content = content[:at] + piece + content[at:]
        else:
            content = content[at:] + content[:at]
    return content


def survives(read, *arguments) -> None:
    """Read, and let a ``RankwiseError`` alone pass for an answer."""
    with contextlib.suppress(RankwiseError):
        read(*arguments)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("adapter")
    build().save_pretrained(directory)
    check_adapter_directory(directory)
    return directory


@pytest.fixture(scope="module")
def ledger(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("ledger")
    model = build()
    chain = chained(model, folds=1)
    model.save_pretrained(directory)
    chain.finish()
    return directory


def with_file(directory: Path, name: str, content: bytes, read) -> None:
    """Read with a file's content exchanged for a moment."""
    file = directory / name
    before = file.read_bytes() if file.exists() else b""
    file.write_bytes(content)
    try:
        survives(read)
    finally:
        file.write_bytes(before)


@fuzzed
@given(edits=EDITS)
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_adapters(adapter, name, edits):
    content = mutated((adapter / name).read_bytes(), edits)
    with_file(adapter, name, content, lambda: check_adapter_directory(adapter))


@fuzzed
@given(edits=EDITS)
def test_ledgers(ledger, edits):
    content = mutated((ledger / FILE_NAME).read_bytes(), edits)
    with_file(ledger, FILE_NAME, content, lambda: read_ledger(ledger))


@fuzzed
@given(
    changes=st.dictionaries(
        st.sampled_from(["format_version", "identity", "folds", "is_inherited"]), JSON, max_size=2
    ),
    identity=st.dictionaries(
        st.sampled_from(["side", "sketch", "seed", "layers"]), JSON, max_size=2
    ),
)
def test_headers_of_ledgers(ledger, tmp_path_factory, changes, identity):
    found = read_ledger(ledger)
    header = {"format_version": 1, "identity": {**vars(found.identity), **identity}}
    header |= {"folds": found.folds, "is_inherited": found.is_inherited, **changes}
    directory = tmp_path_factory.mktemp("header")
    (directory / "adapter_config.json").write_text('{"peft_type": "RANKWISE_CHAIN"}')
    metadata = {"rankwise_chain": json.dumps(header)}
    save_file(found.tensors, directory / FILE_NAME, metadata=metadata)
    survives(read_ledger, directory)
    survives(export_ledger, directory, directory / "lora")


@fuzzed
@given(content=JSON, edits=EDITS)
def test_records(tmp_path_factory, content, edits):
    path = tmp_path_factory.mktemp("out") / "runs" / "one" / "record.json"
    path.parent.mkdir(parents=True)
    whole = {"format_version": 1, "status": "done", "settings": content}
    for text in (json.dumps(content), json.dumps(whole)):
        for raw in (text.encode(), mutated(text.encode(), edits)):
            path.write_bytes(raw)
            survives(read_record, path)
            survives(FinishedRun.open, path.parent)


def places(tree, path=()):
    """Every place in a tree of JSON, the inner ones too."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in inner:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def with_value(tree, place, value):
    """A copy of a tree with another value at a place, given as a share of them all."""
    known = list(places(tree))
    *above, last = known[int(place * (len(known) - 1))]
    changed = part = copy.deepcopy(tree)
    for key in above:
        part = part[key]
    part[last] = value
    return changed


SUMMARY = made_up_comparison().summary.model_dump(mode="json")
SETTINGS = {"settings": load_recipe("digits").run().model_dump(mode="json")}
TEST = {"run": "one", "score_test": 0.5, "scores": {"accuracy": 0.5}, "predictions": [1, 2]}
KEPT = [
    ("summary.json", SUMMARY, read_summary),
    ("runs/one/settings.json", SETTINGS, lambda folder: refuse_other_run(RUN, folder)),
    ("test.json", TEST, lambda folder: TestResult.read(folder / "test.json")),
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


ROWS = b"gj04\t1\t\tOur friends will not buy it.\ngj04\t0\t*\tThey drank the pub.\n"


@fuzzed
@given(edits=EDITS)
def test_rows(tmp_path_factory, edits):
    root = tmp_path_factory.mktemp("data")
    path = root / "glue" / "CoLA" / "train.tsv"
    path.parent.mkdir(parents=True)
    path.write_bytes(mutated(ROWS, edits))
    survives(read_file, find_definition("cola"), "train", root)
    lines = root / "rows.jsonl"
    lines.write_bytes(mutated(b'{"question": "1 + 1?", "answer": "#### 2"}\n' * 3, edits))
    survives(read_examples, lines)
    images = root / "images-idx3-ubyte"
    images.write_bytes(
        mutated(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, *range(4)]), edits)
    )
    survives(read_idx, images)


@fuzzed
@given(
    name=st.sampled_from(
        ["training.epochs", "compare.methods", "task.rows", "method", "--", "a.b"]
    ),
    value=st.text(max_size=30),
)
def test_options(name, value):
    sections = ("task", "method", "training", "compare")
    for words in ([f"--{name}", value], [f"--{name}={value}"]):
        survives(lambda said=words: split_options(said, declared=(), sections=sections))


RECIPE = (
    b"method: {name: lora, r: 4}\ntraining: {epochs: 2}\nvariants: {quick: {seed: 1}}\nseed: 0\n"
)


@fuzzed
@given(
    edits=EDITS,
    tree=st.dictionaries(
        st.sampled_from(["task", "method", "training", "seed", "compare", "variants"]),
        JSON,
        max_size=3,
    ),
)
def test_recipes(tmp_path_factory, edits, tree):
    path = tmp_path_factory.mktemp("recipe") / "r.yaml"
    for raw in (mutated(RECIPE, edits), json.dumps(tree).encode()):
        path.write_bytes(raw)
        for variant in (None, "quick"):
            survives(lambda chosen=variant: load_recipe(str(path), variant=chosen))


@pytest.mark.parametrize(
    "text",
    [
        "seed: 2001-99-99",
        "seed: " + "9" * 5000,
        "a: &a [*a]\nmethod: *a",
        "[" * 2000,
        "1: 2",
        "variants: 3",
        "method: {name: {}}",
        "\x00",
        "method: !!python/object:os.system x",
        "variants: {quick: 3}",
    ],
)
def test_recipes_made_to_break(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RankwiseError):
        load_recipe(str(path))
    with pytest.raises(RankwiseError):
        load_recipe(str(path), variant="quick")


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000, '{"format_version": 1e999}', "\ud800"])
def test_records_made_to_break(tmp_path, text):
    path = tmp_path / "record.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RankwiseError):
        read_record(path)


def test_pickles_links_and_values_that_are_not_finite_are_refused(adapter, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    torch.save({}, tmp_path / "adapter_model.bin")
    with pytest.raises(RankwiseError, match=r"a pickle, \.bin, is never read"):
        check_adapter_directory(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    weights.symlink_to(adapter / weights.name)
    with pytest.raises(RankwiseError, match=r"is a link, which is not followed"):
        check_adapter_directory(tmp_path)
    weights.unlink()
    save_file({"x.lora_A.weight": torch.tensor([float("nan")])}, weights)
    with pytest.raises(RankwiseError, match=r"x\.lora_A\.weight .* not finite"):
        check_adapter_directory(tmp_path)
    weights.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(RankwiseError, match="its header claims 1099511627776 bytes"):
        check_adapter_directory(tmp_path)
