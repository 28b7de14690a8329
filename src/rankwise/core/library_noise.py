"""What libraries say that nobody can act on, kept from the terminal."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator

# PEFT and Transformers import bitsandbytes and torchao wherever they are installed. Without a GPU
# torchao warns of each kernel that it cannot load, and of its own enums; bitsandbytes of a kernel
# to be downloaded.
_TALKATIVE = ("torchao", "bitsandbytes", "torch.utils._pytree")


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Let the loggers of quantisation libraries tell errors alone, until exit."""
    levels = {name: logging.getLogger(name).level for name in _TALKATIVE}
    _tell_errors_alone()
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def quiet_peft() -> Iterator[None]:
    """Let PEFT not warn of its own use of Transformers where we call it, until exit."""
    with warnings.catch_warnings():
        _ignore_deprecated_name()
        yield


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Let Transformers draw no bars for files that it reads and writes, until exit."""
    from transformers.utils import logging as said  # late: what is quiet may come first

    with _without(
        said.is_progress_bar_enabled, said.disable_progress_bar, said.enable_progress_bar
    ):
        yield


@contextlib.contextmanager
def without_bars_of_datasets() -> Iterator[None]:
    """Let ``datasets`` draw no bars for rows that it reads and packs, until exit."""
    import datasets as bars  # late: it takes seconds

    with _without(
        bars.is_progress_bar_enabled, bars.disable_progress_bars, bars.enable_progress_bars
    ):
        yield


@contextlib.contextmanager
def _without(
    is_on: Callable[[], bool], switch_off: Callable[[], None], switch_on: Callable[[], None]
) -> Iterator[None]:
    if not is_on():
        yield
        return
    switch_off()
    try:
        yield
    finally:
        switch_on()


def silence_libraries() -> None:
    """Keep what libraries warn one another of from a process that is all ours."""
    _tell_errors_alone()
    _ignore_deprecated_name()
    # Before PEFT saves an adapter it looks for the base's config.json, here and on the Hub: whether
    # the vocabulary has grown. A GGUF file has none, and our runs leave every vocabulary alone.
    for message in ("Could not find a config file in", "Unable to fetch remote file"):
        warnings.filterwarnings("ignore", message=message, category=UserWarning)


def _ignore_deprecated_name() -> None:
    # PEFT 0.21 asks Transformers for a name that is deprecated there.
    warnings.filterwarnings(
        "ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning
    )


def _tell_errors_alone() -> None:
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
