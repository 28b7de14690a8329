"""The loss counts the response and its end: nothing before, nothing after."""

from __future__ import annotations

import pytest
import torch

from rankwise.core.errors import DataError
from rankwise.core.labels import IGNORED_LABEL
from rankwise.tasks.generation.encoding import encode_instructions
from rankwise.tasks.generation.instructions import Instruction
from rankwise.tasks.generation.prompts import Prompts
from tests.models.saved import make_tokenizer
from tests.tasks.generation.generation_files import WORDS

ROWS = [Instruction("is it?", "the correct answer is true"), Instruction("or not", "false")]


@pytest.fixture
def prompts():
    return Prompts(make_tokenizer(WORDS))


def test_labels_are_the_response_and_the_end(prompts):
    batch = encode_instructions(prompts, ROWS, max_length=999).rows.take(slice(0, 1))
    labels = batch["labels"][0]
    learned = labels[labels != IGNORED_LABEL]
    assert prompts.tokenizer.decode(learned) == " the correct answer is true</s>"
    whole = prompts.tokenizer.decode(batch["input_ids"][0])
    assert whole == f"{prompts.text(['is it?'])} the correct answer is true</s>"


def test_a_real_end_is_attended_to_even_where_it_is_the_padding(prompts):
    prompts.tokenizer.pad_token = None
    batch = encode_instructions(prompts, ROWS, max_length=999).rows.take(torch.arange(2))
    is_end = batch["input_ids"] == prompts.end
    attended = batch["attention_mask"].bool()
    assert (is_end & attended).sum(dim=1).tolist() == [1, 1]
    # The end of a row is its last token that is attended to, and it is learned.
    last = attended.sum(dim=1) - 1
    assert batch["labels"][torch.arange(2), last].tolist() == [prompts.end] * 2
    assert (batch["labels"][~attended] == IGNORED_LABEL).all()
    assert (is_end & ~attended).any()


def test_cut_rows_are_counted_and_do_not_teach_an_end(prompts):
    (length,) = {len(tokens) for tokens in prompts.tokens([prompts.text(["is it?"])])}
    encoded = encode_instructions(prompts, ROWS[:1], max_length=length + 2)
    assert (encoded.truncated, encoded.left_out) == (1, 0)
    labels = encoded.rows.take(slice(0, 1))["labels"][0]
    assert (labels != IGNORED_LABEL).sum() == 2
    assert prompts.end not in labels


def test_rows_without_room_for_a_response_are_left_out_and_counted(prompts):
    long = Instruction("why " * 99, "so")
    encoded = encode_instructions(prompts, [*ROWS, long], max_length=300)
    assert (len(encoded.rows), encoded.left_out) == (2, 1)
    with pytest.raises(DataError, match=r"no prompt of 1 rows leaves room .* within 300 tokens"):
        encode_instructions(prompts, [long], max_length=300)


def test_an_empty_response_is_refused(prompts):
    with pytest.raises(DataError, match="row 1 has an empty response"):
        encode_instructions(prompts, [ROWS[0], Instruction("x", " \n")], max_length=99)
