"""A smoke test of what was exported: vLLM loads the base with it, and writes a few tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rankwise.core.errors import AdapterError, SettingsError
from rankwise.evaluation.generation import Decoding
from rankwise.evaluation.vllm_engine import VllmEngine
from rankwise.tasks.generation.prompts import Prompts
from rankwise.tasks.pretrained import find_model
from rankwise.training.finished import FinishedRun
from rankwise.training.settings.task import dtype_of

_TOKENS = 4


def check_vllm(run: Path, directory: Path) -> int:
    """Let vLLM write with the plain LoRA in ``directory``, and return the number of new tokens.

    Raises:
        AdapterError: vLLM does not take the directory, or nothing was written.
        SettingsError: vLLM is not installed, or the run's model is no causal one with files.
    """
    opened = FinishedRun.open(run)
    task: Any = opened.task
    name = getattr(task, "model", None) or getattr(getattr(task, "base", None), "name", None)
    if name is None or not hasattr(task, "tokenizer"):
        raise SettingsError(
            f"--check vllm needs a causal model with files, and {opened.name} has none"
        )
    prompts = Prompts(task.tokenizer())
    dtype = dtype_of(opened.settings.task)
    engine = VllmEngine.open(find_model(name), directory, end=prompts.end, dtype=dtype)
    (written,) = engine.generate(prompts.tokens(["Hello"]), Decoding(_TOKENS), seed=0)
    if not written:
        raise AdapterError(f"vLLM loaded {directory} and wrote nothing")
    return len(written)
