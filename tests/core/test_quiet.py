"""What is said while quantisation libraries are imported, and after."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from rankwise.core.quiet import quiet_imports


def test_loggers_are_as_before_also_after_an_exception():
    logger = logging.getLogger("torchao")
    before = logger.level
    with quiet_imports():
        assert not logger.isEnabledFor(logging.WARNING)
        assert logger.isEnabledFor(logging.ERROR)
    with pytest.raises(ImportError), quiet_imports():
        raise ImportError
    assert logger.level == before


def test_importing_rankwise_says_nothing():
    code = "import rankwise"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == run.stderr == ""
