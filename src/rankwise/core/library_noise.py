"""What libraries say that nobody can act on, kept from the terminal."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

# PEFT imports bitsandbytes and torchao wherever they are installed. Without a GPU torchao warns of
# each kernel that it cannot load, and of its own enums; bitsandbytes of a kernel to be downloaded.
_TALKATIVE = ("torchao", "bitsandbytes", "torch.utils._pytree")


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Let the loggers of quantisation libraries tell errors alone, until exit."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def ignore_known_warnings() -> None:
    """Ignore in this process what libraries warn one another of."""
    # PEFT 0.21 asks Transformers for a name that is deprecated there.
    warnings.filterwarnings(
        "ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning
    )
