"""What a comparison leaves is read back, also what version 0.1 left."""

from __future__ import annotations

import pytest

from rankwise.comparison.folder import read_summary
from rankwise.core.errors import AdapterError
from rankwise.core.records import write_record


def test_a_summary_of_version_0_1_is_read(tmp_path):
    lora = {"name": "lora", "r": 1, "side": None, "budget": "300", "status": "ok"}
    lora |= {"score_mean": 0.5, "scores": [0.4, 0.6], "seeds": [0, 1], "warnings": []}
    cola = {"name": "cola", "r": 1, "side": "both", "budget": 300, "scores": [], "seeds": []}
    cola |= {"status": "failed: the loss became nan", "score_mean": None, "warnings": []}
    protocol = {"baseline": "lora", "learning_rates": [0.1], "seeds": [0, 1], "widenings": 4}
    old = {"task": "digits", "protocol": protocol, "methods": [lora, cola], "runs": ["a"]}
    write_record(tmp_path / "summary.json", old)
    summary = read_summary(tmp_path)
    assert [row.is_scored for row in summary.methods] == [True, False]
    assert summary.methods[0].scores == (0.4, 0.6)
    assert summary.methods[1].error == "the loss became nan"
    assert summary.methods[1].budget == "300"


def test_what_is_no_summary_is_named(tmp_path):
    write_record(tmp_path / "summary.json", {"task": "digits"})
    with pytest.raises(AdapterError, match=r"summary\.json is damaged or of another kind"):
        read_summary(tmp_path)
