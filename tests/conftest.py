"""What all tests share: no clock in Hypothesis, and real data where its folder is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data, laid out as ``<family>/<task>/<split>.*``."""
    named = os.environ.get("RANKWISE_TEST_DATA")
    folder = Path(named) if named else BESIDE_THE_CHECKOUT
    if not folder.is_dir():
        if named:
            pytest.fail(f"RANKWISE_TEST_DATA names {named}, which is no folder")
        pytest.skip("no real data: name its folder in RANKWISE_TEST_DATA (CI has it)")
    return folder
