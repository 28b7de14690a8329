"""Completions in batches: the same in any batch, in order, and kept when generation stops."""

from __future__ import annotations

import contextlib
import json

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from rankwise.core.disk import is_want_of_room
from rankwise.core.errors import SettingsError
from rankwise.evaluation import generation
from rankwise.evaluation.commonsense_likelihood import answer_likelihoods, likeliest
from rankwise.evaluation.generation import Completion, Decoding, TextGenerator, TransformersEngine
from rankwise.methods.adapters.delora import DeloraConfig
from tests.full_disk import files_of_at_most
from tests.tasks.generation.generation_files import tiny_llama

GREEDY = Decoding(max_new_tokens=8)
SAMPLED = Decoding(max_new_tokens=8, temperature=1.5, top_p=1.0, top_k=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("llama") / "model", positions=64, has_pad=False)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def model(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        # Far from a draw between two tokens, so that rounding decides nothing.
        for parameter in model.parameters():
            parameter.mul_(4)
    return model


@pytest.fixture
def prompts():
    generator = torch.Generator().manual_seed(0)
    lengths = [3, 20, 1, 7, 7, 12, 2, 30, 5]
    return [torch.randint(4, 300, (n,), generator=generator).tolist() for n in lengths]


@pytest.fixture
def complete(model, tokenizer, prompts, tmp_path):
    def run(decoding=GREEDY, *, file="texts.jsonl", rows=None, progress=lambda _: None, **options):
        engine = TransformersEngine(model, tokenizer.eos_token_id, padding=2)
        generator = TextGenerator(engine, tokenizer, **({"batch_size": 4} | options))
        return generator.complete(prompts[:rows], decoding, tmp_path / file, progress=progress)

    return run


def test_the_batch_size_changes_no_text(complete):
    one, four, all_at_once = (complete(file=f"{n}.jsonl", batch_size=n) for n in (1, 4, 9))
    assert one == four == all_at_once
    assert len({each.text for each in one}) > 1


def test_a_text_is_what_the_whole_model_finds_likeliest(complete, model, tokenizer, prompts):
    """Without a cache, without padding, one token after the other."""
    tokens = list(prompts[3])
    for _ in range(8):
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    if tokenizer.eos_token_id in (new := tokens[7:]):
        new = new[: new.index(tokenizer.eos_token_id)]
    assert complete()[3].text == tokenizer.decode(new, skip_special_tokens=True)


def test_texts_are_on_disk_as_they_come_and_are_not_written_again(complete, tmp_path, monkeypatch):
    whole = complete(file="whole.jsonl")

    def stop(done):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        complete(progress=stop)
    file = tmp_path / "texts.jsonl"
    assert len(file.read_text().splitlines()) == 1 + 8
    # The process was killed in the middle of a line.
    with file.open("a") as lines:
        lines.write('{"row": 0, "te')
    counts = []
    assert complete(progress=counts.append) == whole
    assert counts == [9]
    assert complete(progress=counts.append) == whole
    assert counts == [9]


def test_a_file_that_answers_something_else_is_refused(complete, tmp_path):
    complete()
    with pytest.raises(SettingsError, match="completions of other prompts or of another decoding"):
        complete(SAMPLED)
    with pytest.raises(SettingsError, match="completions of other prompts"):
        complete(rows=3)
    (tmp_path / "texts.jsonl").write_text("[]\n")
    with pytest.raises(SettingsError, match="is no file of completions"):
        complete()


@pytest.mark.parametrize(
    "line",
    [
        "3",
        "{",
        '{"row": 0}',
        '{"row": [], "text": "a", "is_truncated": true}',
        '{"row": 0, "text": 3, "is_truncated": true}',
        '{"row": 0, "text": "a", "is_truncated": "no"}',
        '{"row": 0, "text": ' + "[" * 99_999,
    ],
    ids=lambda line: line[:30],
)
def test_a_line_that_is_no_completion_is_refused(complete, tmp_path, line):
    complete()
    with (tmp_path / "texts.jsonl").open("a") as lines:
        lines.write(f"{line}\n")
    with pytest.raises(SettingsError, match="is no file of completions"):
        complete()


def test_texts_for_which_there_was_no_room_are_written_again(complete, tmp_path):
    whole = complete(file="whole.jsonl")
    size = (tmp_path / "whole.jsonl").stat().st_size
    with pytest.raises(OSError) as caught, files_of_at_most(size - 9):
        complete()
    assert is_want_of_room(caught.value)
    assert complete() == whole
    assert (tmp_path / "texts.jsonl").stat().st_size == size


def test_a_file_of_version_0_1_is_read(complete, tmp_path):
    new = complete(context=28)
    file = tmp_path / "texts.jsonl"
    head, *lines = map(json.loads, file.read_text().splitlines())
    for line in lines:
        is_truncated = line.pop("is_truncated")
        line["is_ended"] = line["text"] is not None and not is_truncated
    file.write_text("".join(json.dumps(line) + "\n" for line in (head, *lines)))
    counts = []
    assert complete(context=28, progress=counts.append) == new
    assert counts == []


def test_a_prompt_without_room_is_answered_by_nothing(complete):
    texts = complete(context=28)
    assert [each.text is None for each in texts] == [n > 20 for n in (3, 20, 1, 7, 7, 12, 2, 30, 5)]
    assert texts[7] == Completion(None, is_truncated=False)


def test_what_was_read_is_not_read_again(complete, model):
    """The whole prompts pass once, after them one token at a time, by the cache."""
    widths = []

    def note(_, __, options):
        widths.append(options["input_ids"].shape[1])

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    complete(batch_size=9)
    handle.remove()
    assert widths[0] == 30
    assert set(widths[1:]) == {1}


def test_prompts_of_like_lengths_share_a_batch(complete, model):
    shapes = []

    def note(_, __, options):
        if (shape := tuple(options["input_ids"].shape))[1] > 1:
            shapes.append(shape)

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    complete(batch_size=4)
    handle.remove()
    assert shapes == [(4, 30), (4, 7)]  # and the prompt of one token


@pytest.fixture
def adapted(folder):
    base = AutoModelForCausalLM.from_pretrained(folder)
    model = get_peft_model(base, DeloraConfig(r=2, delora_lambda=4, target_modules="all-linear"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    return model.train()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_an_adapter_is_merged_while_it_generates_and_not_after(
    adapted, tokenizer, prompts, tmp_path, error
):
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    layer = adapted.base_model.model.model.layers[0].mlp.up_proj
    seen = []

    def look(_):
        seen.append(layer.disable_adapters and not layer.get_base_layer().weight.equal(weight))
        if error:
            raise error

    weight = layer.get_base_layer().weight.clone()
    generator = TextGenerator(TransformersEngine(adapted, tokenizer.eos_token_id), tokenizer)
    with pytest.raises(error) if error else contextlib.nullcontext():
        generator.complete(prompts, GREEDY, tmp_path / "texts.jsonl", progress=look)
    assert seen == [True]
    assert adapted.training
    assert not layer.disable_adapters
    assert all(torch.equal(each, before[name]) for name, each in adapted.state_dict().items())


def test_a_merged_adapter_generates_what_it_generates_unmerged(
    adapted, tokenizer, prompts, tmp_path, monkeypatch
):
    generator = TextGenerator(TransformersEngine(adapted, tokenizer.eos_token_id), tokenizer)
    merged = generator.complete(prompts, GREEDY, tmp_path / "merged.jsonl")
    monkeypatch.setattr(generation, "temporarily_merged", contextlib.nullcontext)
    assert generator.complete(prompts, GREEDY, tmp_path / "unmerged.jsonl") == merged
    with adapted.disable_adapter():
        assert generator.complete(prompts, GREEDY, tmp_path / "base.jsonl") != merged


def test_sampling_repeats_itself_and_leaves_the_random_state_alone(complete):
    state = torch.get_rng_state()
    first = complete(SAMPLED, file="a.jsonl")
    assert torch.equal(torch.get_rng_state(), state)
    assert complete(SAMPLED, file="b.jsonl") == first
    assert complete(file="c.jsonl") != first


def test_a_text_ends_before_a_stop_word_and_before_the_end_token(complete, model, tokenizer):
    (text, *_) = complete()
    letter = text.text[2]
    stopped = Decoding(max_new_tokens=8, stop_words=(letter,))
    (cut, *_) = complete(stopped, file="cut.jsonl")
    assert cut == Completion(text.text.partition(letter)[0], is_truncated=False)


def test_the_mode_of_the_model_is_restored(complete, model):
    model.train()
    complete()
    assert model.training
    model.eval()


def test_the_file_is_json_lines(complete, tmp_path):
    texts = complete()
    _, *lines = map(json.loads, (tmp_path / "texts.jsonl").read_text().splitlines())
    assert {line["row"]: line["text"] for line in lines} == {
        row: each.text for row, each in enumerate(texts)
    }


def test_the_likelihood_of_an_answer_is_the_product_of_its_tokens(model, prompts):
    answers = [(row, len(row) // 2) for row in prompts if len(row) > 2]
    expected = []
    with torch.no_grad():
        for row, start in answers:
            scores = model(torch.tensor([row])).logits[0].log_softmax(-1)
            expected.append(sum(scores[i - 1, row[i]] for i in range(start, len(row))))
    for size in (1, 3):
        found = answer_likelihoods(model, answers, batch_size=size, padding=2)
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)


def test_the_likeliest_option_of_each_question_is_chosen():
    assert likeliest(torch.tensor([-1.0, -2.0, -9.0, -8.0, -7.0]), [2, 3]) == [0, 2]
