"""What counts in the loss: a completion and its end, the assistant's messages, or every token."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.errors import DataError, ModelError, SettingsError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.tasks.own.causal_lm import CausalLm
from rankwise.tasks.own.division import Cut
from rankwise.tasks.own.sample_tokens import sample_tokens
from rankwise.tasks.own.samples import Sample
from rankwise.tasks.own.sft import SupervisedFineTuning
from rankwise.tasks.own.source import Source
from tests.models.saved import make_llama, make_tokenizer
from tests.tasks.own.own_files import write_jsonl

WORDS = ["what is one and two", "user assistant it is three"]
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]|{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]|{% endif %}"
)
MARKED = (
    "{% for m in messages %}[{{ m.role }}]|{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}</s>{% endgeneration %}"
    "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]|{% endif %}"
)
# Only the last answer is written whole: no turn before it can be told.
FORGETFUL = (
    "{% for m in messages %}[{{ m.role }}]|"
    "{{ m.content if loop.last or m.role == 'user' else '...' }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]|{% endif %}"
)
CHAT = (
    ("user", "what is one"),
    ("assistant", "it is"),
    ("user", "and two"),
    ("assistant", "three"),
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return make_llama(tmp_path_factory.mktemp("llama") / "model", WORDS)


@pytest.fixture
def tokenizer():
    return make_tokenizer(WORDS, limit=512)


def learned(tokenizer, row):
    (found,) = sample_tokens(tokenizer, [row], place="a.jsonl")
    return tokenizer.decode([t for t, counts in zip(*found, strict=True) if counts])


def test_the_completion_and_its_end_count(tokenizer):
    assert learned(tokenizer, Sample("what is", "three")) == " three</s>"
    assert learned(tokenizer, Sample("what is\n", "three")) == "three</s>"


@pytest.mark.parametrize("template", [TEMPLATE, MARKED])
def test_all_that_the_assistant_says_counts(tokenizer, template):
    tokenizer.chat_template = template
    assert learned(tokenizer, Sample(messages=CHAT)) == "it is</s>three</s>"


def test_a_template_that_writes_answers_otherwise_later_is_refused(tokenizer):
    tokenizer.chat_template = FORGETFUL
    assert learned(tokenizer, Sample(messages=CHAT[:2])) == "it is</s>"
    with pytest.raises(
        DataError, match=r"a\.jsonl, row 1: the chat template writes message 2 in another way"
    ):
        learned(tokenizer, Sample(messages=CHAT))


def test_a_tokenizer_without_a_template_is_refused(tokenizer):
    with pytest.raises(ModelError, match="has no chat template, which conversations need: take an"):
        learned(tokenizer, Sample(messages=CHAT))


def sft(tmp_path, model, rows, **options):
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    return SupervisedFineTuning(Source(file), Cut(), model, **options)


PAIRS = [{"question": f"what is {n}", "answer": f"it is {n}"} for n in range(20)]


def test_prompts_and_completions_become_rows(tmp_path, llama):
    task = sft(tmp_path, llama, PAIRS)
    splits = task.splits()
    assert splits.facts["columns"] == {"prompt": "question", "completion": "answer"}
    batch = splits.train.take(slice(0, 4))
    assert task.tokenizer().decode(batch["input_ids"][0]).startswith("what is 0 it is 0</s>")
    counted = batch["labels"] != IGNORED_LABEL
    assert (batch["labels"] == batch["input_ids"])[counted].all()
    assert not counted[:, 0].any()


def test_the_loss_may_count_everything(tmp_path, llama):
    batch = sft(tmp_path, llama, PAIRS, loss="all").splits().train.take(slice(0, 4))
    assert torch.equal(batch["labels"] != IGNORED_LABEL, batch["attention_mask"].bool())


def test_rows_that_are_cut_or_have_no_room_are_counted(tmp_path, llama):
    rows = [*PAIRS, {"question": "what " * 30, "answer": "no room"}]
    rows += [{"question": f"who {n}", "answer": "long " * 30} for n in range(9)]
    facts = sft(tmp_path, llama, rows, max_length=20).splits().facts
    splits = [facts[split] for split in ("train", "validation", "test")]
    assert sum(each["left_out"] for each in splits) == 1
    assert sum(each["truncated"] for each in splits) == 9
    with pytest.raises(DataError, match="no row has room for its completion within 2 tokens"):
        sft(tmp_path, llama, PAIRS, max_length=2).splits()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("hello", "must be a list of messages with role and content, got 'hello'"),
        ([{"role": "user", "content": "hello"}], "has no message of the assistant"),
        ([], "must be a list of messages"),
    ],
)
def test_what_is_no_conversation_is_refused(tmp_path, llama, value, message):
    with pytest.raises(DataError, match=rf"train, row 1, 'messages' {message}"):
        sft(tmp_path, llama, [{"messages": value}]).splits()


def test_columns_that_cannot_be_told_are_asked_for(tmp_path, llama):
    with pytest.raises(DataError, match=r"which columns are prompt and completion\? set --task"):
        sft(tmp_path, llama, [{"a": "x", "b": "y"}]).splits()


def test_plain_text_is_cut_into_blocks_and_no_token_is_lost(tmp_path, llama):
    texts = [{"text": f"what is {n} and {n}"} for n in range(30)]
    file = write_jsonl(tmp_path / "a.jsonl", texts)
    task = CausalLm(Source(file), Cut(), llama, max_length=16)
    splits = task.splits()
    facts = splits.facts["train"]
    batch = splits.train.take(torch.arange(len(splits.train)))
    assert batch["input_ids"].shape == (facts["blocks"], 16)
    assert abs(int(batch["attention_mask"].sum()) - facts["tokens"]) <= 1
    assert (batch["labels"] != IGNORED_LABEL).sum() == batch["attention_mask"].sum()
    assert task.tokenizer().decode(batch["input_ids"].flatten()).count("</s>") >= 23


def test_metrics_of_texts_let_the_model_write_the_last_completion(tmp_path, llama):
    task = sft(tmp_path, llama, PAIRS, asked_metrics=("exact_match",), max_new_tokens=5)
    rows, model = task.splits().train, task.base_model(tmp_path)
    short, longer = rows.take(torch.tensor([0])), rows.take(torch.tensor([0, 12]))
    alone, beside = task.answers(model, {}, short), task.answers(model, {}, longer)
    assert alone.labels[0] == beside.labels[0] == "it is 0"
    # Rows of other lengths beside it change nothing of what is written.
    assert alone.predictions[0] == beside.predictions[0]
    prompt = short["input_ids"][:, : (short["labels"] == IGNORED_LABEL).sum()]
    more = model.generate(input_ids=prompt, max_new_tokens=5, do_sample=False)
    words = task.tokenizer().decode(more[0, prompt.shape[1] :], skip_special_tokens=True)
    assert alone.predictions[0] == words.strip()


def test_completions_cannot_be_written_where_all_is_learned(tmp_path, llama):
    with pytest.raises(SettingsError, match=r"which task\.loss 'all' does not tell from prompts"):
        sft(tmp_path, llama, PAIRS, asked_metrics=("rougeL",), loss="all").splits()
