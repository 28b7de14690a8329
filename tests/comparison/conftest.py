"""What the tests of comparisons share."""

from __future__ import annotations

import pytest

from rankwise.comparison import sweep


@pytest.fixture
def no_base_model(monkeypatch):
    """Leave out the base model, which no made-up run needs; lists the runs it was asked for."""
    asked = []
    monkeypatch.setattr(sweep, "_make_base_model", lambda run, _output: asked.append(run))
    return asked
