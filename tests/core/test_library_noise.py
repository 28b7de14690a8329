"""What is said while quantisation libraries are imported, and after."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import datasets
import pytest
from transformers.utils import logging as of_transformers

from rankwise.core.library_noise import (
    quiet_imports,
    silence_libraries,
    without_bars,
    without_bars_of_datasets,
)


def test_loggers_are_as_before_also_after_an_exception():
    logger = logging.getLogger("torchao")
    before = logger.level
    with quiet_imports():
        assert not logger.isEnabledFor(logging.WARNING)
        assert logger.isEnabledFor(logging.ERROR)
    with pytest.raises(ImportError), quiet_imports():
        raise ImportError
    assert logger.level == before


@pytest.mark.parametrize("before", [True, False])
def test_bars_are_off_until_exit_and_then_as_before(before):
    (of_transformers.enable_progress_bar if before else of_transformers.disable_progress_bar)()
    try:
        with without_bars():
            assert not of_transformers.is_progress_bar_enabled()
        assert of_transformers.is_progress_bar_enabled() is before
    finally:
        of_transformers.enable_progress_bar()


@pytest.mark.parametrize("before", [True, False])
def test_so_are_those_of_datasets(before):
    (datasets.enable_progress_bars if before else datasets.disable_progress_bars)()
    try:
        with without_bars_of_datasets():
            assert not datasets.is_progress_bar_enabled()
        assert datasets.is_progress_bar_enabled() is before
    finally:
        datasets.enable_progress_bars()


@pytest.mark.processes
def test_importing_rankwise_and_its_names_says_nothing():
    code = "from rankwise import *"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == run.stderr == ""


@pytest.mark.parametrize(
    ("known", "kind"),
    [
        ("`is_gradient_checkpointing` is deprecated and will go", FutureWarning),
        ("Could not find a config file in package:tiny/tiny.gguf - will assume", UserWarning),
        ("Unable to fetch remote file due to the following error", UserWarning),
    ],
)
def test_a_known_warning_is_ignored_and_others_are_not(known, kind):
    with quiet_imports(), warnings.catch_warnings():
        warnings.simplefilter("error")
        silence_libraries()
        warnings.warn(known, kind, stacklevel=2)
        with pytest.raises(kind):
            warnings.warn("`another` is deprecated", kind, stacklevel=2)
