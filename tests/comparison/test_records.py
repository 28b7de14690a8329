"""The record of a comparison is read as it was written, version 0.1's included."""

from __future__ import annotations

import pytest

from rankwise.comparison.records import Protocol, Summary, SummaryRow


@pytest.mark.parametrize(
    ("old", "status", "error"),
    [("ok", "done", None), ("failed: the loss became nan", "failed", "the loss became nan")],
)
def test_a_row_of_version_0_1_is_read(old, status, error):
    row = SummaryRow.model_validate({"name": "lora", "budget": "", "status": old})
    assert (row.status, row.error) == (status, error)


@pytest.mark.parametrize(
    ("task", "subject"),
    [
        ({}, "sft"),
        ({"data": "/home/ada/chats.jsonl"}, "chats.jsonl"),
        ({"data": "photos/"}, "photos"),
        ({"data": "/"}, "sft"),
        ({"data": "hub:openai/gsm8k"}, "gsm8k"),
    ],
)
def test_a_comparison_is_called_by_the_data_of_the_user(task, subject):
    protocol = Protocol(baseline="lora", task=task)
    assert Summary(task="sft", protocol=protocol, methods=()).subject == subject
