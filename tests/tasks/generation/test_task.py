"""Fine-tuning on instructions, from files to record, on a Llama of kilobytes."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import trainer as transformers_trainer

from rankwise.core.errors import ModelError, SettingsError
from rankwise.tasks.generation.small import SmallBase
from rankwise.tasks.generation.small import _texts as small_texts
from rankwise.tasks.generation.task import response_likelihood
from rankwise.training.build import build_task
from rankwise.training.finished import FinishedRun
from rankwise.training.records import _run_settings
from rankwise.training.run import train_run
from rankwise.training.settings.recipe import load_recipe
from tests.tasks.generation.generation_files import boolq_rows, tiny_llama, write_lines

FILE = "commonsense/boolq/train"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_lines(folder, FILE, boolq_rows(40))
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("llama") / "model", has_pad=False)


@pytest.fixture
def run_of(root, llama):
    def make(name="lora", *, task=None, init=None):
        own = {"model": llama, "data_root": str(root), "files": [FILE], "rows": 16, "held_out": 4}
        training = {"batch_size": 4, "accumulation_steps": 2, "keep": "best", "epochs": 2}
        method = {"name": name, "r": 2} | ({"init": init} if init else {})
        overrides = {"task": own | (task or {}), "method": method, "training": training}
        return load_recipe("generation-tutorial", overrides).run()

    return make


@pytest.mark.parametrize(
    ("name", "init"), [("lora-sb", {"samples": 4}), ("abm-lora", {"steps": 2, "samples": 4})]
)
def test_a_run_trains_and_leaves_the_model_that_its_record_describes(run_of, tmp_path, name, init):
    run = run_of(name, init=init)
    record = train_run(run, tmp_path)
    assert record.metric == "likelihood"
    first, *_, last = (point.validation_loss for point in record.curve)
    assert last < first
    kept = min(point.validation_loss for point in record.curve[1:])
    assert record.score_validation == pytest.approx(math.exp(-kept), rel=1e-5)
    again = FinishedRun.below(tmp_path, run.name).score("validation")
    assert again.score == pytest.approx(record.score_validation, rel=1e-6)
    assert record.data["train"] == {
        "rows": 16,
        "truncated": 0,
        "left_out": 0,
        "source": f"16 of the 40 rows of {FILE}",
    }


def test_full_fine_tuning_of_a_model_with_tied_weights_is_kept(root, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(transformers_trainer.logger, "warning", lambda text, *_: said.append(text))
    small = {"files": [FILE], "vocabulary": 300, "width": 16, "blocks": 1, "heads": 2, "steps": 2}
    task = {"data_root": str(root), "files": [FILE], "rows": 16, "held_out": 4, "small": small}
    training = {"learning_rate": 1e-2, "keep": "best"}
    given = {"task": task, "method": {"name": "full"}, "training": training}
    run = load_recipe("generation-tutorial", given, variant="quick").run()
    record = train_run(run, tmp_path)
    finished = FinishedRun.below(tmp_path, run.name)
    model = finished.trained_model()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    again = finished.score("validation")
    assert again.score == pytest.approx(record.score_validation, rel=1e-6)
    assert again.score > math.exp(-record.curve[0].validation_loss)
    # A tied weight's second name is in no checkpoint, and not missed.
    assert said == []


def test_the_likelihood_counts_the_response_alone():
    logits = torch.zeros(2, 4, 8)
    labels = torch.tensor([[-100, 3, 5, 1], [-100, -100, -100, 2]])
    sums, counts = response_likelihood(logits, labels)
    assert counts.tolist() == [3, 1]
    torch.testing.assert_close(sums, -counts * math.log(8))


def test_a_run_is_rehearsed_without_data_and_weights(run_of):
    rehearsal = build_task(run_of()).rehearse()
    assert rehearsal.training_rows == 16
    assert {each.device.type for each in rehearsal.batch.values()} == {"meta"}


def test_more_tokens_than_the_model_reads_are_refused(run_of):
    with pytest.raises(SettingsError, match=r"max_length must be at most 512, .* got 513"):
        build_task(run_of(task={"max_length": 513})).splits()


def test_a_model_without_a_chat_template_is_refused(run_of):
    with pytest.raises(ModelError, match="has no chat template"):
        build_task(run_of(task={"template": "chat"})).splits()


def test_the_small_model_is_made_once_and_leaves_the_random_state_alone(root, tmp_path):
    small = SmallBase(
        root, (FILE,), vocabulary=300, width=16, blocks=1, heads=2, steps=8, batch_size=2, length=32
    )
    state = torch.get_rng_state()
    made = small.model(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    again = small.model(tmp_path)
    assert file.stat().st_mtime_ns == written
    for ours, theirs in zip(made.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    untrained = SmallBase(**{**vars(small), "steps": 1}).model(tmp_path)
    batch = torch.tensor([small.tokenizer()("Please answer the following question")["input_ids"]])
    losses = [each(input_ids=batch, labels=batch).loss.item() for each in (made, untrained)]
    assert losses[0] < losses[1]


def test_the_small_model_reads_no_row_that_is_held_out(run_of, root):
    """Nor one of another file that asks the same."""
    held_out = {f"is {number} odd" for number in held_out_numbers(run_of)}
    assert len(held_out) == 8
    for reads, split_seed in ((False, 0), (True, 0), (False, 1)):
        small = {"reads_held_out": reads, "files": [FILE, FILE]}
        run = run_of(task={"model": "small", "small": small, "split_seed": split_seed})
        texts = small_texts(root, (FILE, FILE), build_task(run).base.cut)
        seen = {question for question in held_out if any(question in text for text in texts)}
        assert len(texts) == 2 * (40 if reads else 32)
        assert (seen == set()) == (not reads and split_seed == 0)


def held_out_numbers(run_of):
    _, parts = build_task(run_of(task={"split_seed": 0})).cut.read()
    return [*parts.validation, *parts.test]


def test_a_run_of_before_is_opened_on_the_base_that_read_them(run_of):
    new = run_of(task={"model": "small"})
    assert not new.task.small.reads_held_out
    old = new.model_dump(mode="json")
    del old["task"]["small"]["reads_held_out"]
    assert _run_settings(old, of="run").task.small.reads_held_out
    before = run_of(task={"model": "small", "small": {"reads_held_out": True}})
    assert _run_settings(old, of="run").name == before.name != new.name


def test_of_other_models_it_is_no_part_of_a_runs_name(run_of):
    assert run_of(task={"small": {"reads_held_out": True}}).name == run_of().name


def test_rows_that_ask_the_same_in_two_splits_are_counted(run_of, root):
    rows = boolq_rows(20) * 2
    write_lines(root, "commonsense/twice/train", rows)
    facts = build_task(run_of(task={"files": ["commonsense/twice/train"]})).splits().facts
    counts = [facts[split]["duplicates_of_train"] for split in ("validation", "test")]
    assert all(0 < count <= 4 for count in counts)
    assert build_task(run_of()).splits().facts["test"]["duplicates_of_train"] == 0


def test_the_small_model_needs_texts(root):
    with pytest.raises(SettingsError, match=r"name some in task\.small\.files"):
        SmallBase(root, ()).tokenizer()
    with pytest.raises(SettingsError, match=r"model small.* needs its files"):
        SmallBase(None, (FILE,)).tokenizer()
