"""A base in bfloat16 or float16: what trains stays float32, from the start to what leaves."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from rankwise.core.errors import SettingsError
from rankwise.training.build import build_task
from rankwise.training.evaluating import find_causal, score_adapter
from rankwise.training.finished import FinishedRun
from rankwise.training.folder import RunFolder
from rankwise.training.probes.doctor import examine
from rankwise.training.probes.dry_run import dry_run
from rankwise.training.publishing import publish_lora, publish_merged
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from tests.models.saved import make_bert, make_t5
from tests.tasks.generation.generation_files import boolq_rows, tiny_llama, write_lines
from tests.tasks.glue.glue_files import write_mrpc

pytestmark = pytest.mark.runs

FILE = "commonsense/boolq/train"
TEXTS = ["train 1 other train 22", "dev 3 other dev 4", "different equivalent", "result: classify"]
CHAIN = {"schedule": {"every_epochs": 1, "fractions": []}}
METHODS = [
    ("lora", {}),
    ("rac-lora", CHAIN),
    ("cola", CHAIN),
    ("abm-lora", {"init": {"steps": 2, "samples": 4}}),
    ("lora-sb", {"init": {"samples": 4}}),
    ("delora", {}),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_lines(folder, FILE, boolq_rows(40))
    return write_mrpc(folder, train=24, dev=20, test_labelled=12)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("llama") / "model", has_pad=False)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_bert(tmp_path_factory.mktemp("bert") / "model", TEXTS)


@pytest.fixture
def causal_run(root, llama):
    def make(name="lora", dtype="bfloat16", *, method=None, task=None, **training):
        own = {"model": llama, "data_root": str(root), "files": [FILE], "rows": 16, "held_out": 4}
        own |= {"dtype": dtype} | (task or {})
        training = {"batch_size": 4, "epochs": 2, **training}
        named = {"name": name, "r": 2, **(method or {})}
        return load_recipe(
            "generation-tutorial", {"task": own, "method": named, "training": training}
        ).run()

    return make


@pytest.fixture
def glue_run(root, bert):
    def make(name="lora", dtype="bfloat16", *, method=None, task=None, **training):
        own = {"data_root": str(root), "model": bert, "max_length": 32, "dtype": dtype}
        training = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, **training}
        named = {"name": name, "r": 2, **(method or {})}
        tree = {"task": own | (task or {}), "method": named, "training": training}
        return load_recipe("glue-tutorial", tree).run()

    return make


def dtypes(model):
    """Return the dtypes of what trains and of what does not."""
    trained = {each.dtype for each in model.parameters() if each.requires_grad}
    fixed = {each.dtype for each in model.parameters() if not each.requires_grad}
    return trained, fixed


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_a_causal_run_trains_in_float32_beside_weights_of_fewer_digits(
    causal_run, tmp_path, name, method
):
    run = causal_run(name, method=method)
    folder = RunFolder.below(tmp_path, run.name)
    base = build_task(run).base_model(folder.base)
    assert dtypes(base)[0] == {torch.bfloat16}
    record = train_run(run, tmp_path)
    first, *_, last = (point.validation_loss for point in record.curve)
    assert last < first
    model = FinishedRun.below(tmp_path, run.name).trained_model()
    adapter = {key for key, each in model.state_dict().items() if each.dtype == torch.float32}
    assert adapter
    weights = dict(base.named_parameters())
    plain = {key.replace(".base_layer", ""): each for key, each in model.named_parameters()}
    for key, weight in weights.items():
        assert torch.equal(plain[f"base_model.model.{key}"], weight)
    # Nothing was lost on disk either.
    again = FinishedRun.below(tmp_path, run.name).score("validation")
    assert again.score == pytest.approx(record.score_validation, rel=1e-2)
    published = publish_lora(folder.path, tmp_path / "lora")
    assert published.lora.largest_difference < 1e-6


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_a_classifier_s_head_is_float32_too(glue_run, tmp_path, name, method):
    run = glue_run(name, method=method)
    record = train_run(run, tmp_path)
    folder = RunFolder.below(tmp_path, run.name)
    model = FinishedRun.below(tmp_path, run.name).trained_model()
    head = model.get_base_model().classifier
    assert {each.dtype for each in head.parameters()} == {torch.float32}
    assert model.get_base_model().bert.embeddings.word_embeddings.weight.dtype == torch.bfloat16
    _, again = score_adapter(folder.path, split="validation")
    assert again.score == record.score_validation
    assert record.curve[-1].validation_loss < record.curve[0].validation_loss


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_text_to_text_runs_on_such_weights(glue_run, tmp_path, dtype):
    t5 = make_t5(tmp_path / "t5", TEXTS, gated=True)
    task = {"model": t5, "form": "text", "max_length": 96}
    record = train_run(glue_run(dtype=dtype, task=task), tmp_path / "out")
    assert record.curve[-1].validation_loss < record.curve[0].validation_loss


def test_float16_goes_too(causal_run, tmp_path):
    run = causal_run(dtype="float16")
    record = train_run(run, tmp_path)
    assert record.curve[-1].validation_loss < record.curve[0].validation_loss
    model = FinishedRun.below(tmp_path, run.name).trained_model()
    assert {each.dtype for each in model.parameters()} == {torch.float16, torch.float32}


def test_it_goes_with_computing_in_bfloat16_and_recomputed_activations(causal_run, tmp_path):
    run = causal_run("lora-sb", method=METHODS[4][1], bf16=True, gradient_checkpointing=True)
    record = train_run(run, tmp_path)
    assert record.curve[-1].validation_loss < record.curve[0].validation_loss


def test_merged_weights_have_the_dtype_that_they_had(causal_run, tmp_path):
    run = causal_run("delora")
    train_run(run, tmp_path)
    publish_merged(RunFolder.below(tmp_path, run.name).path, tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    assert {each.dtype for each in merged.values()} == {torch.bfloat16}


def test_another_dtype_can_be_chosen_afterwards(causal_run, tmp_path):
    run = causal_run()
    train_run(run, tmp_path)
    causal = find_causal(RunFolder.below(tmp_path, run.name).path, {"dtype": "float32"})
    assert {each.dtype for each in causal.load().parameters()} == {torch.float32}


def test_the_doctor_sees_no_jump_that_float32_does_not_have(causal_run, tmp_path):
    method = {"init": {"samples": 4}}
    found, plain = (
        examine(causal_run("lora-sb", dtype, method=method), RunFolder.below(tmp_path, "x"))
        for dtype in ("bfloat16", "float32")
    )
    for name in ("jump", "relative_norm", "captured_share", "gradient_norm"):
        assert getattr(found, name) == pytest.approx(getattr(plain, name), rel=0.1), name


def test_the_small_model_is_the_same_one_rounded(root, tmp_path):
    small = {"files": [FILE], "vocabulary": 300, "width": 16, "blocks": 1, "heads": 2, "steps": 2}
    recipe = {"model": "small", "small": small, "data_root": str(root), "files": [FILE]}
    recipe |= {"rows": 20, "held_out": 5}
    whole, rounded = (
        build_task(
            load_recipe(
                "generation-tutorial", {"task": recipe | {"dtype": dtype}}, variant="quick"
            ).run()
        ).base_model(tmp_path)
        for dtype in ("float32", "bfloat16")
    )
    for ours, theirs in zip(rounded.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs.bfloat16())
    # Positions are no weights.
    assert all(each.dtype == torch.float32 for each in rounded.buffers())


@pytest.mark.parametrize("recipe", ["sb-arithmetic", "delora-glue"])
def test_a_rehearsal_counts_bytes_by_dtype(recipe):
    def rehearsed(dtype, **method):
        changes = {"task": {"dtype": dtype}, "method": method, "compare": None}
        return dry_run(load_recipe(recipe, changes).run())

    whole, half, plain = (
        rehearsed("float32"),
        rehearsed("bfloat16"),
        rehearsed("bfloat16", name="lora"),
    )
    # All of an adapter is float32 in both, and so is the untrained copy of a head that PEFT keeps.
    base = plain.weights - sum(plain.parameters) - plain.parameters.head
    assert whole.state_bytes - half.state_bytes == 2 * base
    assert half.agrees


def test_full_fine_tuning_of_such_weights_is_refused(causal_run):
    with pytest.raises(
        SettingsError, match=r"'bfloat16' small updates round away: use task\.dtype"
    ):
        causal_run("full")


def test_a_dtype_that_there_is_not_is_refused(causal_run):
    with pytest.raises(SettingsError, match=r"dtype: Input should be 'float32', 'bfloat16'"):
        causal_run(dtype="int8")


@pytest.mark.parametrize("recipe", ["glue-tutorial", "generation-tutorial"])
def test_runs_in_float32_have_the_names_that_they_had_before_there_was_a_choice(recipe):
    names = {"glue-tutorial": "bb962d79", "generation-tutorial": "f57f6261"}
    # Whose init took the first rows, and whose small model read rows that are held out.
    task = {} if recipe == "glue-tutorial" else {"small": {"reads_held_out": True}}
    method = {"init": {"sampling": "first"}} if recipe == "glue-tutorial" else {}
    variant = None if recipe == "glue-tutorial" else "quick"
    of_then = load_recipe(recipe, {"task": task, "method": method}, variant=variant)
    assert of_then.run().name.endswith(names[recipe])
    half = {"task": task | {"dtype": "bfloat16"}, "method": method}
    half = load_recipe(recipe, half, variant=variant)
    assert not half.run().name.endswith(names[recipe])
