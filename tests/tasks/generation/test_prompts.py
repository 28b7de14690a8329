"""Prompts as text and tokens."""

from __future__ import annotations

import pytest

from rankwise.core.errors import ModelError
from rankwise.tasks.generation.prompts import Prompts
from tests.models.saved import make_tokenizer
from tests.tasks.generation.generation_files import WORDS

CHAT = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"


@pytest.fixture
def tokenizer():
    return make_tokenizer(WORDS)


def test_alpaca_has_a_form_with_and_without_a_context(tokenizer):
    prompts = Prompts(tokenizer)
    opening = "Below is an instruction that describes a task. Write a response that appropriately "
    assert prompts.text(["Add."]) == (
        f"{opening}completes the request.\n\n### Instruction:\nAdd.\n\n### Response:"
    )
    assert "task, paired with an input" in prompts.text(["Add."], context="1 1")
    assert prompts.text(["Add."], context="1 1").endswith(
        "### Instruction:\nAdd.\n\n### Input:\n1 1\n\n### Response:"
    )


def test_more_turns_repeat_the_headings(tokenizer):
    assert (
        Prompts(tokenizer)
        .text(["a", "b", "c"])
        .endswith("### Instruction:\na\n\n### Response: b\n\n### Instruction:\nc\n\n### Response:")
    )


def test_a_chat_template_is_the_tokenizers_own(tokenizer):
    tokenizer.chat_template = CHAT
    prompts = Prompts(tokenizer, "chat")
    assert prompts.text(["a", "b", "c"]) == "[user]a[assistant]b[user]c[assistant]"
    assert prompts.text(["a"], context="x") == "[user]a\n\nx[assistant]"


def test_a_tokenizer_without_a_chat_template_is_refused(tokenizer):
    with pytest.raises(ModelError, match=r"has no chat template: choose --task\.template alpaca"):
        Prompts(tokenizer, "chat")


def test_a_tokenizer_without_an_end_is_refused(tokenizer):
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="has no end token"):
        Prompts(tokenizer)


def test_prompts_have_no_end_and_padding_may_be_the_end(tokenizer):
    prompts = Prompts(tokenizer)
    (tokens,) = prompts.tokens(["the request"])
    assert prompts.end not in tokens
    assert tokenizer.decode(tokens) == "the request"
    assert prompts.padding != prompts.end
    tokenizer.pad_token = None
    assert prompts.padding == prompts.end
