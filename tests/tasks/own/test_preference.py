"""Pairs of completions: their forms, what is compared of them, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch

from rankwise.core.errors import DataError, ModelError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.tasks.own import preference as preference_task
from rankwise.tasks.own.division import Cut
from rankwise.tasks.own.guess import guess_task
from rankwise.tasks.own.pair_tokens import pair_tokens
from rankwise.tasks.own.preference import Preference
from rankwise.tasks.own.source import Source
from tests.models.saved import make_llama, make_tokenizer
from tests.tasks.own.own_files import write_jsonl
from tests.tasks.own.test_language import TEMPLATE, WORDS

PAIRS = [{"prompt": f"what is {n}", "chosen": f"it is {n}", "rejected": "three"} for n in range(20)]
ASKED = [{"role": "user", "content": "what is one"}]
GOOD, BAD = (
    [{"role": "assistant", "content": text}] for text in ("it is three", "and two and two")
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return make_llama(tmp_path_factory.mktemp("llama") / "model", WORDS)


def preference(tmp_path, llama, rows, **options):
    return Preference(Source(write_jsonl(tmp_path / "a.jsonl", rows)), Cut(), llama, **options)


def pairs_of(tmp_path, rows):
    """The pairs of the training split, as they are read."""
    from rankwise.tasks.own.pairs import read_pairs
    from rankwise.tasks.own.source import read_source

    read = read_source(Source(write_jsonl(tmp_path / "a.jsonl", rows)))["train"]
    return read_pairs(read, {name: name for name in read.column_names}, place="a.jsonl")


def compared(tokenizer, pair):
    (found,), _ = pair_tokens(tokenizer, [pair], max_length=512, place="a.jsonl")
    return [tokenizer.decode(side[found.start :]) for side in (found.chosen, found.rejected)]


def test_texts_are_compared_behind_the_prompt(tmp_path):
    (pair,) = pairs_of(tmp_path, PAIRS[:1])
    tokenizer = make_tokenizer(WORDS, limit=512)
    assert compared(tokenizer, pair) == [" it is 0</s>", " three</s>"]


def test_texts_without_a_prompt_are_compared_where_they_part(tmp_path):
    (pair,) = pairs_of(tmp_path, [{"chosen": "what is one it is", "rejected": "what is one and"}])
    assert compared(make_tokenizer(WORDS, limit=512), pair) == [" it is</s>", " and</s>"]
    assert pair.key == "what is one"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASKED, "chosen": GOOD, "rejected": BAD},
        {"prompt": "what is one", "chosen": GOOD, "rejected": BAD},
        {"chosen": ASKED + GOOD, "rejected": ASKED + BAD},
        {"prompt": "what is one", "chosen": ASKED + GOOD, "rejected": ASKED + BAD},
    ],
)
def test_conversations_come_in_four_forms(tmp_path, row):
    tokenizer = make_tokenizer(WORDS, limit=512)
    tokenizer.chat_template = TEMPLATE
    (pair,) = pairs_of(tmp_path, [row])
    assert pair.key == (("user", "what is one"),)
    assert compared(tokenizer, pair) == ["it is three</s>", "and two and two</s>"]


def test_a_tokenizer_without_a_template_is_refused(tmp_path, llama):
    rows = [{"prompt": ASKED, "chosen": GOOD, "rejected": BAD}]
    with pytest.raises(ModelError, match="has no chat template"):
        pair_tokens(make_tokenizer(WORDS), pairs_of(tmp_path, rows), max_length=64, place="a.jsonl")


def test_a_batch_holds_both_sides_and_what_counts_in_them(tmp_path, llama):
    task = preference(tmp_path, llama, PAIRS)
    splits = task.splits()
    batch = splits.validation.take(torch.tensor([1]))
    assert (
        batch["input_ids"].shape
        == batch["targets"].shape
        == (1, 2, max(task.splits().validation.lengths[1:2]))
    )
    assert batch["pairs"].tolist() == [len(splits.train) + 1]
    counted = batch["targets"] != IGNORED_LABEL
    assert torch.equal(batch["targets"][counted], batch["input_ids"][counted])
    assert not counted[:, :, 0].any()
    assert not (counted & (batch["attention_mask"] == 0)).any()


def test_margins_are_zero_before_training_and_a_copy_has_its_own(tmp_path, llama):
    task = preference(tmp_path, llama, PAIRS)
    model = task.base_model(tmp_path / "base")
    batch = task.splits().train.take(slice(0, 4))
    with torch.no_grad():
        torch.testing.assert_close(model(**batch)["logits"], torch.zeros(4), atol=1e-5, rtol=0)
        other = copy.deepcopy(model)
        other.lm_head.weight.mul_(2)
        assert other(**batch)["logits"].abs().max() > 1e-3
        torch.testing.assert_close(model(**batch)["logits"], torch.zeros(4), atol=1e-5, rtol=0)
        # Without pairs it is the model that it was.
        assert model(input_ids=batch["input_ids"][:, 0])["logits"].dim() == 3


def test_what_the_model_begins_with_is_computed_on_the_gpu_of_the_process(
    tmp_path, llama, monkeypatch
):
    moved = []
    monkeypatch.setattr(preference_task, "on_accelerator", moved.append)
    model = preference(tmp_path, llama, PAIRS).base_model(tmp_path / "base")
    assert moved == [model]


def test_preferences_are_seen_by_their_columns(tmp_path):
    source = Source(write_jsonl(tmp_path / "a.jsonl", PAIRS))
    assert guess_task(source, {}) == {"name": "preference"} | {
        name: name for name in ("prompt", "chosen", "rejected")
    }


def test_rows_that_prefer_nothing_are_left_out_and_counted(tmp_path, llama):
    alike = [{"prompt": "what", "chosen": "it is", "rejected": " it  is"}]
    facts = preference(tmp_path, llama, PAIRS + alike).splits().facts
    assert facts["columns"]["alike"] == 1
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="are the same in every row: there is nothing to prefer"):
        preference(
            tmp_path / "other", llama, [alike[0] | {"prompt": each} for each in WORDS]
        ).splits()


def test_pairs_without_room_are_left_out_and_counted(tmp_path, llama):
    rows = [*PAIRS, {"prompt": "what " * 60, "chosen": "it", "rejected": "is"}]
    facts = preference(tmp_path, llama, rows, max_length=20).splits().facts
    assert sum(facts[split]["left_out"] for split in ("train", "validation", "test")) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x", "chosen": "", "rejected": "y"}, "row 1, 'chosen' is empty: fill it"),
        ({"prompt": "x", "chosen": 3, "rejected": 4}, "must be a text, or a list of messages"),
        (
            {"prompt": ASKED, "chosen": GOOD, "rejected": ASKED},
            "what was rejected does not end with the assistant's message",
        ),
        ({"chosen": GOOD, "rejected": BAD}, "has no message before what was chosen"),
    ],
)
def test_what_is_no_pair_is_refused(tmp_path, llama, row, message):
    with pytest.raises(DataError, match=message):
        preference(tmp_path, llama, [row]).splits()


def test_columns_that_cannot_be_told_are_asked_for(tmp_path, llama):
    with pytest.raises(DataError, match=r"which columns are chosen and rejected\? set --task"):
        preference(tmp_path, llama, [{"prompt": "x", "chosen": "y", "worse": "z"}]).splits()
    with pytest.raises(DataError, match="no column 'wors'; did you mean 'worse'"):
        preference(
            tmp_path, llama, [{"prompt": "x", "chosen": "y", "worse": "z"}], rejected="wors"
        ).splits()
