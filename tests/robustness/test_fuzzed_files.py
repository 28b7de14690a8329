"""Files from anywhere: whatever they hold, a reader returns or raises a ``RankwiseError``.

``make fuzz`` runs the same with thousands of files; RANKWISE_FUZZ_EXAMPLES says how many.
"""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet
from safetensors.torch import save_file

from rankwise.cli.overrides import split_options
from rankwise.core.errors import RankwiseError
from rankwise.core.records import read_record
from rankwise.export.ledger import export_ledger
from rankwise.methods.adapters.directory import check_adapter_directory
from rankwise.methods.chain.ledger import FILE_NAME, read_ledger
from rankwise.tasks.generation.examples import read_examples
from rankwise.tasks.glue.definitions import find_definition
from rankwise.tasks.glue.files import read_file
from rankwise.tasks.idx import read_idx
from rankwise.tasks.own.faults import check_file
from rankwise.tasks.own.source import Source, read_source
from rankwise.tasks.vtab.definitions import find_definition as find_vision
from rankwise.tasks.vtab.files import read_folder
from rankwise.tasks.vtab.images import FileImages
from rankwise.training.finished import FinishedRun
from rankwise.training.settings.recipe import load_recipe
from tests.models.chains import build, chained
from tests.robustness.fuzzing import EDITS, JSON, fuzzed, fuzzed_by, mutated, survives, with_file
from tests.tasks.vtab.vtab_folders import write_arrays


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
        st.sampled_from(["format_version", "identity", "folds", "is_inherited", "fold_steps"]),
        JSON,
        max_size=2,
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


def packed_rows(folder: Path) -> bytes:
    """The bytes of a Parquet file of a few rows."""
    table = pyarrow.table({"text": ["one", "two"], "label": [0, 1]})
    parquet.write_table(table, folder / "rows.parquet")
    return (folder / "rows.parquet").read_bytes()


@fuzzed
@given(edits=EDITS, form=st.sampled_from([".csv", ".jsonl", ".json", ".parquet"]))
def test_rows_of_ones_own(tmp_path_factory, edits, form):
    folder = tmp_path_factory.mktemp("own")
    rows = b'{"text": "one", "label": 0}\n{"text": "two", "label": 1}\n'
    contents = {
        ".csv": b"text,label\none,0\ntwo,1\n",
        ".jsonl": rows,
        ".json": b"[" + rows.replace(b"\n", b",")[:-1] + b"]",
    }
    content = contents[form] if form in contents else packed_rows(folder)
    file = folder / f"rows{form}"
    file.write_bytes(mutated(content, edits))
    kind = {".csv": "csv", ".parquet": "parquet"}.get(form, "json")
    survives(check_file, file, kind)


# A library reads what has passed that check, slowly, and leaves open what it cannot read.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@fuzzed_by(0.1)
@given(edits=EDITS, form=st.sampled_from([".csv", ".jsonl", ".parquet"]))
def test_rows_of_ones_own_to_their_end(tmp_path_factory, edits, form):
    folder = tmp_path_factory.mktemp("own")
    content = {
        ".csv": b"text,label\none,0\ntwo,1\n",
        ".jsonl": b'{"text": "one", "label": 0}\n{"text": "two", "label": 1}\n',
    }.get(form) or packed_rows(folder)
    file = folder / f"rows{form}"
    file.write_bytes(mutated(content, edits))
    # Of the folder alone, and not of the user's cache.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        survives(read_source, Source(str(file)))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of what is damaged and can be read
@fuzzed
@given(edits=EDITS)
def test_arrays_and_images(tmp_path_factory, edits):
    root = write_arrays(tmp_path_factory.mktemp("vision"), "svhn", train=4)
    arrays = root / "vision" / "svhn" / "train" / "arrays.npz"
    arrays.write_bytes(mutated(arrays.read_bytes(), edits))
    survives(read_folder, find_vision("svhn"), "train", root)
    for form in ("png", "jpeg", "gif", "webp", "tiff", "bmp"):
        file = root / f"image.{form}"
        Image.new("RGB", (16, 16), "red").save(file)
        file.write_bytes(mutated(file.read_bytes(), edits))
        survives(lambda image=file: FileImages((image,))[0])


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
