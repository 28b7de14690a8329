"""Importing packages that log, at every import, what nobody can act on."""

from __future__ import annotations

import contextlib
import logging
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
